"""One-shot without a model: fenced Python, the recipe, or a plain word that neither is there."""

# ruff: noqa: RUF001 - people write Greek letters and typographic signs in their tasks

from __future__ import annotations

import csv
import dataclasses
import fcntl
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cmbagent import recipes
from cmbagent.sandbox import Limits
from tests.cmbagent.supervision import (
    SCIENCE_ENV,
    Heard,
    Supervisor,
    fenced,
    run,
    sandbox,
)

PNG = b"\x89PNG\r\n\x1a\n"


# -- blocks -------------------------------------------------------------------------------------
def test_blocks_run_in_order_and_everything_is_told_in_order(work_dir: Path) -> None:
    heard = run(work_dir, fenced("open('a.txt', 'w').write('1')", "print(open('a.txt').read())"))
    block = ["phase_changed", "collect", "code_execution", "tool_call"]
    assert heard.kinds() == ["agent_message", *block, *block, "agent_message", "outcome"]
    assert heard.stdout == b"1\n"
    assert [data["phase"] for data in heard.events("phase_changed")] == [
        "Running block 1",
        "Running block 2",
    ]


def test_it_says_that_no_ai_was_used_and_what_was_made(work_dir: Path) -> None:
    heard = run(work_dir, fenced("open('a.txt', 'w').write('1')"))
    first, last = heard.events("agent_message")
    assert "No AI" in first["content"]
    assert "a.txt" in last["content"]
    assert heard.outcome["summary"] == last["content"]


def test_the_result_holds_blocks_and_files(work_dir: Path) -> None:
    result = run(work_dir, fenced("open('a.txt', 'w').write('1')")).outcome["result"]
    (block,) = result["blocks"]
    assert block.pop("duration_s") > 0
    assert block == {"path": "runs/1/block-1.py", "exit_code": 0, "ended_by": "exit"}
    assert result["files"] == ["a.txt"]
    assert "value" not in result


def test_the_code_is_kept_beside_what_it_made(work_dir: Path) -> None:
    run(work_dir, fenced("x = 'µ'"))
    assert (work_dir / "runs/1/block-1.py").read_text(encoding="utf-8") == "x = 'µ'\n"


def test_an_event_tells_how_the_block_ended(work_dir: Path) -> None:
    (data,) = run(work_dir, fenced("import sys; sys.exit(3)")).events("code_execution")
    assert data.pop("duration_s") > 0
    assert data == {
        "language": "python",
        "path": "runs/1/block-1.py",
        "exit_code": 3,
        "ended_by": "exit",
    }


def test_a_failing_block_ends_the_run_and_its_files_are_kept(work_dir: Path) -> None:
    heard = run(work_dir, fenced("open('a', 'w').close()", "1 / 0", "print('never')"))
    assert heard.error["error_type"] == "code_failed"
    assert heard.error["message"] == (
        "Block 2 of 3 (runs/1/block-2.py) ended with exit code 1: "
        "ZeroDivisionError: division by zero"
    )
    assert heard.error["retryable"]
    assert heard.error["suggestion"]
    assert heard.stdout == b""
    assert heard.kinds()[-4:] == ["collect", "code_execution", "tool_call", "outcome"]


def test_a_failing_block_names_where_a_retry_begins(work_dir: Path) -> None:
    heard = run(work_dir, fenced("print(1)", "1 / 0"))
    assert heard.error["key"] == "agent:engineer#0/tool:run_python#1"
    failed = [entry for entry in heard.entries if entry["key"].startswith(heard.error["key"])]
    assert {entry["kind"] for entry in failed} == {"tool", "execution"}


def test_a_signal_is_named(work_dir: Path) -> None:
    heard = run(work_dir, fenced("import os; os.abort()"))
    assert "SIGABRT" in heard.error["message"]
    assert heard.events("code_execution")[0]["exit_code"] is None


@pytest.mark.parametrize(
    ("code", "limit", "name"),
    [
        ("import time; time.sleep(60)", {"wall_s": 1}, "time limit"),
        ("while True: pass", {"cpu_s": 1}, "cpu limit"),
    ],
)
def test_a_limit_is_named(work_dir: Path, code: str, limit: dict[str, int], name: str) -> None:
    heard = run(work_dir, fenced(code), limits=dataclasses.asdict(Limits()) | limit)
    assert heard.error["error_type"] == "code_failed"
    assert name in heard.error["message"]


def test_each_block_is_one_finished_tool_call(work_dir: Path) -> None:
    heard = run(work_dir, fenced("print(1)", "print(2)"))
    agent = "agent:engineer#0"
    assert [entry["key"] for entry in heard.entries if entry["kind"] != "model"] == [
        f"{agent}/tool:run_python#0/execute#0",
        f"{agent}/tool:run_python#0",
        f"{agent}/tool:run_python#1/execute#0",
        f"{agent}/tool:run_python#1",
        agent,
    ]
    usages = [entry["usage"] for entry in heard.entries if entry["kind"] == "model"]
    assert len(usages) == 3
    assert all(usage and usage["cost_usd"] == usage["input_tokens"] == 0 for usage in usages)


def test_a_second_attempt_goes_on_after_the_last_finished_block(work_dir: Path) -> None:
    second = "print('second')\nimport os, time\nif os.path.exists('go'): raise SystemExit\n"
    task = fenced("print('first')", second + "time.sleep(60)", "print('third')")
    with Supervisor(work_dir) as supervisor:
        supervisor.begin(task)
        supervisor.until_printed(b"second\n")
        supervisor.process.kill()
        journal = supervisor.heard.entries
    (work_dir / "go").touch()
    again = run(work_dir, task, attempt=2, journal=journal)
    assert again.stdout == b"second\nthird\n"
    assert len(again.events("agent_message")) == 1, "the first was said by the first attempt"
    paths = [block["path"] for block in again.outcome["result"]["blocks"]]
    assert paths == [f"runs/1/block-{number}.py" for number in (1, 2, 3)]


# -- what executed code finds -------------------------------------------------------------------
def test_executed_code_sees_only_its_own_environment(work_dir: Path) -> None:
    code = "import json, os\njson.dump(dict(os.environ), open('result.json', 'w'))"
    seen = run(work_dir, fenced(code), code_threads=2).outcome["result"]["value"]
    assert seen["HOME"] == str(work_dir)
    assert seen["PATH"].startswith(f"{SCIENCE_ENV}/bin:")
    assert (seen["MPLBACKEND"], seen["LANG"]) == ("Agg", "C.UTF-8")
    assert (seen["OMP_NUM_THREADS"], seen["OPENBLAS_NUM_THREADS"]) == ("2", "2")
    assert not {"PYTHONPATH", "CMBAGENT_PARAMETERS"} & seen.keys()


def test_executed_code_works_in_the_work_directory_with_no_descriptor_of_ours(
    work_dir: Path,
) -> None:
    code = "import json, os\nopen_ = sorted(os.listdir('/proc/self/fd'))\n"
    code += "json.dump([os.getcwd(), len(open_)], open('result.json', 'w'))"
    cwd, descriptors = run(work_dir, fenced(code)).outcome["result"]["value"]
    assert cwd == str(work_dir)
    assert descriptors <= 4  # 0, 1, 2 and the listing's own


def test_the_science_packages_can_be_imported(work_dir: Path) -> None:
    code = "import numpy, scipy, matplotlib, astropy, camb"
    assert run(work_dir, fenced(code)).outcome["kind"] == "completed"


# -- result.json --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"age": 13.8, "list": [1, null]}', {"age": 13.8, "list": [1, None]}),
        ("[NaN, Infinity, 1e999]", ["NaN", "Infinity", "1e999"]),
        ("3", 3),
    ],
)
def test_what_code_leaves_in_result_json_is_the_value(
    work_dir: Path, text: str, value: Any
) -> None:
    code = f"open('result.json', 'w').write({text!r})"
    assert run(work_dir, fenced(code)).outcome["result"]["value"] == value


@pytest.mark.parametrize(
    "code",
    [
        "open('result.json', 'w').write('{')",
        "open('result.json', 'w').write('[' * 100 + ']' * 100)",
        "open('result.json', 'w').write('[' * 9000 + ']' * 9000)",
        "open('result.json', 'w').write('[' + '1,' * 20_000 + '1]')",
        "open('result.json', 'wb').write(b'\"\\xff\"')",
        "import os; os.symlink('/etc/hostname', 'result.json')",
        "import os; os.mkfifo('result.json')",
        "import os; os.mkdir('result.json')",
        "pass",
    ],
)
def test_what_is_no_small_json_file_is_left_out(work_dir: Path, code: str) -> None:
    outcome = run(work_dir, fenced(code)).outcome
    assert outcome["kind"] == "completed"
    assert "value" not in outcome["result"]


def test_a_result_of_an_earlier_run_is_not_this_runs(work_dir: Path) -> None:
    code = "open('result.json', 'w').write('1')"
    run(work_dir, fenced(code))
    again = run(work_dir, fenced("pass"), run_dir="runs/2")
    assert "value" not in again.outcome["result"]
    rewritten = run(work_dir, fenced(code), run_dir="runs/3")
    assert rewritten.outcome["result"]["value"] == 1


# -- neither code nor recipe --------------------------------------------------------------------
def test_without_code_or_recipe_it_says_what_can_be_run(work_dir: Path) -> None:
    heard = run(work_dir, "Write a paper about dark energy.")
    assert heard.error["error_type"] == "no_recipe"
    assert not heard.error["retryable"]
    assert "No model is connected" in heard.error["message"]
    assert "```python" in heard.error["suggestion"]
    assert recipes.known()[0].examples[0] in heard.error["suggestion"]


def test_a_fence_without_a_language_is_pointed_out(work_dir: Path) -> None:
    heard = run(work_dir, "```\nprint(1)\n```")
    assert "without a language" in heard.error["suggestion"]


def test_an_open_fence_runs_nothing(work_dir: Path) -> None:
    heard = run(work_dir, fenced("print(1)") + "\n```python\nprint(2)")
    assert heard.error["error_type"] == "fence_unterminated"
    assert "line 4" in heard.error["message"]
    assert heard.stdout == b""


# -- nothing to run in --------------------------------------------------------------------------
def test_without_a_sandbox_code_is_refused_with_the_remedy(work_dir: Path) -> None:
    none = {**sandbox(), "level": None, "remedy": "Install bubblewrap."}
    heard = run(work_dir, fenced("print(1)"), sandbox=none)
    assert heard.error["error_type"] == "sandbox_unavailable"
    assert heard.error["suggestion"] == "Install bubblewrap."
    assert heard.stdout == b""


def test_without_a_science_environment_the_run_fails_with_the_remedy(work_dir: Path) -> None:
    absent = str(work_dir / "absent")
    heard = run(work_dir, fenced("print(1)"), science_env=absent)
    assert heard.error["error_type"] == "environment_failed"
    assert "make science" in heard.error["suggestion"]


def test_a_failed_installation_says_why(work_dir: Path, tmp_path: Path) -> None:
    record = {"state": "failed", "detail": "The disk is full.", "locks": {}, "path": "", "at": 0}
    (tmp_path / "env.state.json").write_text(json.dumps(record))
    heard = run(work_dir, fenced("print(1)"), science_env=str(tmp_path / "env"))
    assert "The disk is full." in heard.error["message"]


def test_a_block_waits_for_the_environment_and_says_so(work_dir: Path, tmp_path: Path) -> None:
    installing = {"state": "installing", "detail": "downloading numpy", "locks": {}, "path": ""}
    (tmp_path / "env.state.json").write_text(json.dumps(installing))
    with (tmp_path / "env.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with Supervisor(work_dir) as supervisor:
            supervisor.begin(fenced("print(1)"), science_env=str(tmp_path / "env"))
            supervisor.until("phase_changed")
            fcntl.flock(lock, fcntl.LOCK_UN)
            heard = supervisor.until_the_end()
    phases = [data["phase"] for data in heard.events("phase_changed")]
    assert phases == ["Preparing the science environment: downloading numpy"]
    assert heard.error["error_type"] == "environment_failed"  # the installer went away


@pytest.mark.parametrize("end", ["os.symlink('/tmp', 'runs')", "open('runs', 'w').close()"])
def test_what_code_puts_in_our_way_is_moved_aside_and_never_followed(
    work_dir: Path, end: str
) -> None:
    code = f"import os\nos.rename('runs', 'moved')\n{end}"
    heard = run(work_dir, fenced(code, "print('goes on')"))
    assert heard.outcome["kind"] == "completed"
    assert heard.stdout == b"goes on\n"
    assert not Path("/tmp/1").exists()
    assert len(list(work_dir.glob("runs.moved-*"))) == 1


# -- the recipe ---------------------------------------------------------------------------------
CAMB_DIRECTLY = """
import json, sys
import camb
values = json.loads(sys.argv[1])
settings = camb.set_params(**values, lens_potential_accuracy=1)
results = camb.get_results(settings)
spectra = results.get_cmb_power_spectra(CMB_unit="muK", spectra=["total"], lmax=values["lmax"])
json.dump([row.tolist() for row in spectra["total"][2:]], sys.stdout)
"""


def computed(heard: Heard, work_dir: Path) -> list[list[float]]:
    assert heard.outcome["kind"] == "completed", heard.outcome
    with (work_dir / "cmb_power_spectrum.csv").open(newline="") as file:
        names, *rows = csv.reader(file)
    assert names == ["l", "TT_muK2", "EE_muK2", "BB_muK2", "TE_muK2"]
    assert [int(row[0]) for row in rows] == list(range(2, len(rows) + 2))
    return [[float(cell) for cell in row[1:]] for row in rows]


def camb_directly(values: dict[str, float]) -> list[list[float]]:
    argv = [str(SCIENCE_ENV / "bin/python"), "-I", "-c", CAMB_DIRECTLY, json.dumps(values)]
    done = subprocess.run(argv, capture_output=True, check=True)
    spectra: list[list[float]] = json.loads(done.stdout)
    return spectra


def defaults_of(recipe: recipes.Recipe) -> dict[str, float]:
    parameters = recipe.parameters
    return {each.name: each.default for each in parameters if each.default is not None}


@pytest.mark.parametrize("h0", [60, 70, 75])
def test_the_table_equals_camb_called_directly(work_dir: Path, h0: int) -> None:
    heard = run(work_dir, f"Compute the CMB power spectrum for H0 = {h0} km/s/Mpc and plot it.")
    ours = computed(heard, work_dir)
    values = defaults_of(recipes.known()[0]) | {"H0": h0}
    theirs = camb_directly(values)
    assert len(ours) == len(theirs) == 2499
    for mine, direct in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(direct, rel=2e-7, abs=1e-12)


def test_every_parameter_reaches_the_code(work_dir: Path) -> None:
    task = """TT spectrum with h = 0.68, Ω_b h² = 0.0225, omch2 = 0.118, Σm_ν = 0.1 eV, omk = 0.01,
    tau of 0.06, ln(10^10 A_s) = 3.04, n_s = 0.97 and lmax 600"""
    ours = computed(run(work_dir, task), work_dir)
    values = {"H0": 68, "ombh2": 0.0225, "omch2": 0.118, "mnu": 0.1, "omk": 0.01, "tau": 0.06}
    theirs = camb_directly(values | {"As": math.exp(3.04) * 1e-10, "ns": 0.97, "lmax": 600})
    assert ours == [pytest.approx(row, rel=2e-7, abs=1e-12) for row in theirs]


def test_the_recipe_leaves_a_plot_a_table_and_derived_values(work_dir: Path) -> None:
    heard = run(work_dir, "CMB power spectrum", config={"parameters": {"lmax": 800, "H0": 70}})
    result = heard.outcome["result"]
    names = ["cmb_power_spectrum.csv", "cmb_power_spectrum.png", "result.json"]
    assert result["files"] == names
    assert result["value"]["parameters"]["H0"] == 70
    assert 13 < result["value"]["derived"]["age_Gyr"] < 14.5
    assert 0.7 < result["value"]["derived"]["sigma8"] < 0.9
    assert (work_dir / names[1]).read_bytes().startswith(PNG)
    assert b"Computing" in heard.stdout
    assert "H0 = 70 km/s/Mpc" in heard.events("agent_message")[0]["content"]


@pytest.mark.parametrize(
    ("task", "error_type", "named"),
    [
        ("CMB power spectrum with H0 = 700", "parameter_out_of_range", "40 to 100 km/s/Mpc"),
        ("CMB power spectrum with w0 = -0.9", "parameter_unknown", "w0 = -0.9"),
        ("CMB power spectrum with H0 = 70 and h = 0.6", "parameter_conflict", "H0"),
    ],
)
def test_a_parameter_that_cannot_be_used_ends_the_run_before_any_code(
    work_dir: Path, task: str, error_type: str, named: str
) -> None:
    heard = run(work_dir, task)
    assert heard.kinds() == ["outcome"]
    assert heard.error["error_type"] == error_type
    assert named in heard.error["message"]


def test_a_block_wins_over_the_recipe(work_dir: Path) -> None:
    task = "CMB power spectrum with w0 = 3\n" + fenced("print('mine')")
    assert run(work_dir, task).stdout == b"mine\n"


def test_parameters_beside_code_are_not_silently_dropped(work_dir: Path) -> None:
    heard = run(work_dir, fenced("pass"), config={"parameters": {"H0": 70}})
    assert "your code does not get them" in heard.events("agent_message")[0]["content"]
