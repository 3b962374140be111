"""The recipes' code, run for real: known values, truths found again, files that are promised."""

from __future__ import annotations

import csv
import json
import math
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cmbagent import recipes
from tests.cmbagent.supervision import SCIENCE_ENV, Heard, run

PNG = b"\x89PNG\r\n\x1a\n"


def by_hand(folder: Path, task: str) -> subprocess.CompletedProcess[str]:
    """The code as a run keeps it, started as a person would: nothing is set for it."""
    recipe = recipes.find(task)
    assert recipe
    files = recipes.data_files(folder)
    values = recipes.read_parameters(recipe, task, {}, files=files)
    (folder / "kept.py").write_text(recipe.script(values), encoding="utf-8")
    fonts = folder.parent / "matplotlib"  # its list of fonts is made once for all tests
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "MPLCONFIGDIR": str(fonts)}
    argv = [str(SCIENCE_ENV / "bin/python"), "-W", "error", "kept.py"]
    return subprocess.run(argv, check=False, cwd=folder, env=env, capture_output=True, text=True)


def computed(folder: Path, task: str) -> dict[str, Any]:
    done = by_hand(folder, task)
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return value


def refused(folder: Path, task: str) -> str:
    done = by_hand(folder, task)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(path: Path, name: str) -> list[float]:
    return [float(row[name]) for row in rows(path)]


def dots_per_inch(path: Path) -> float:
    """From the chunk pHYs, which has pixels per metre."""
    data = path.read_bytes()
    assert data.startswith(PNG)
    (per_metre,) = struct.unpack_from(">I", data, data.index(b"pHYs") + 4)
    return float(per_metre * 0.0254)


# -- as runs, in the sandbox --------------------------------------------------------------------
@pytest.mark.parametrize("recipe", recipes.known(), ids=lambda recipe: recipe.id)
def test_an_example_runs_in_the_sandbox_and_leaves_what_it_promises(
    work_dir: Path, recipe: recipes.Recipe
) -> None:
    if recipe.inputs:
        (work_dir / "table.csv").write_text("x,y\n1,2\n2,3\n3,5\n", encoding="utf-8")
    heard = run(work_dir, recipe.examples[0])
    assert heard.outcome["kind"] == "completed", heard.outcome
    assert heard.outcome["result"]["files"] == sorted(recipe.makes)
    assert heard.outcome["result"]["value"]["parameters" if not recipe.inputs else "file"]
    for name in recipe.makes:
        assert (work_dir / name).stat().st_size > 0
        if name.endswith(".png"):
            assert dots_per_inch(work_dir / name) >= 199
    assert_no_ai(heard)


def assert_no_ai(heard: Heard) -> None:
    """Every message and the summary say so, and nothing was paid."""
    messages = [data["content"] for data in heard.events("agent_message")]
    assert len(messages) == 2
    assert all("No AI is used" in text or "Done without AI" in text for text in messages)
    assert "without AI" in heard.outcome["summary"]
    used = [entry["usage"] for entry in heard.entries if entry["usage"]]
    assert len(used) == 2
    for usage in used:
        assert (usage["model"], usage["cost_usd"]) == ("no-model", 0)
        assert (usage["input_tokens"], usage["output_tokens"]) == (0, 0)


def test_without_a_table_the_run_says_what_to_do(work_dir: Path) -> None:
    heard = run(work_dir, "Look at my CSV")
    assert heard.error["error_type"] == "input_missing"
    assert "Upload" in heard.error["suggestion"]


def test_the_kept_code_gives_the_runs_values_by_hand(work_dir: Path, tmp_path: Path) -> None:
    heard = run(work_dir, "Draw a 2-D random field with seed 7 and size 64")
    (block,) = heard.outcome["result"]["blocks"]
    argv = [str(SCIENCE_ENV / "bin/python"), str(work_dir / block["path"])]
    subprocess.run(argv, cwd=tmp_path, env={}, check=True, capture_output=True)
    again = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert again == heard.outcome["result"]["value"]


# -- CMB ----------------------------------------------------------------------------------------
def test_the_first_peak_of_the_cmb_is_where_it_is_known_to_be(tmp_path: Path) -> None:
    result = computed(tmp_path, "TT and EE spectra of the CMB with lmax = 1000")
    assert result["first_TT_peak"]["l"] == pytest.approx(220, abs=2)
    assert result["first_TT_peak"]["D_l_muK2"] == pytest.approx(5730, rel=0.01)
    assert result["derived"]["age_Gyr"] == pytest.approx(13.797, abs=0.023)  # Planck 2018
    assert result["derived"]["sigma8"] == pytest.approx(0.811, abs=0.006)
    assert set(result["highest_from_l_50"]) == {"TT", "EE"}


# -- distances and ages -------------------------------------------------------------------------
def test_age_and_distances_of_the_planck_cosmology(tmp_path: Path) -> None:
    result = computed(tmp_path, "Compute the comoving distance to z = 1")
    assert result["age_today_Gyr"] == pytest.approx(13.797, abs=0.01)
    assert result["at_z"]["comoving_distance_Mpc"] == pytest.approx(3396, rel=0.002)
    assert max(result["largest_relative_difference_from_astropy"].values()) < 1e-5
    values = result["at_z"]
    assert values["luminosity_distance_Mpc"] == pytest.approx(2 * values["comoving_distance_Mpc"])
    assert values["age_Gyr"] + values["lookback_time_Gyr"] == pytest.approx(13.797, abs=0.01)


def test_the_age_of_an_einstein_de_sitter_universe_is_two_thirds_of_the_hubble_time(
    tmp_path: Path,
) -> None:
    task = "Compute the age of the universe in an Einstein-de Sitter cosmology with h = 0.7"
    hubble_time = 977.79222 / 70
    age = computed(tmp_path, task)["age_today_Gyr"]
    assert age == pytest.approx(2 / 3 * hubble_time, rel=3e-4)  # radiation takes a little


def test_a_curved_universe_bends_distances(tmp_path: Path) -> None:
    result = computed(tmp_path, "comoving distance at z = 2, Om0 = 0.3 and Ode0 = 0, plot it")
    values, root = result["at_z"], math.sqrt(result["densities"]["Ok0"])
    hubble = 299792.458 / 67.36
    bent = hubble / root * math.sinh(root * values["comoving_distance_Mpc"] / hubble)
    assert values["transverse_comoving_distance_Mpc"] == pytest.approx(bent)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("Om0 = 0.3, Ode0 = 0.9, flat", "must be 1"),
        ("Om0 = 0.02, Ode0 = 1.9", "no big bang"),
    ],
)
def test_densities_that_make_no_universe_are_refused(
    tmp_path: Path, values: str, words: str
) -> None:
    assert words in refused(tmp_path, f"Compute the age of the universe for {values}")


# -- a fit --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "task",
    [
        "Fit a straight line to synthetic data with seed 3",
        "Fit a power law to synthetic data with n = 400",
        "Fit a Hubble diagram of synthetic supernovae with n = 1000",
    ],
)
def test_a_fit_finds_the_truth_within_its_errors(tmp_path: Path, task: str) -> None:
    result = computed(tmp_path, task)
    for fitted in result["fit"].values():
        assert abs(fitted["value"] - fitted["true"]) < 3.5 * fitted["error"]
        assert fitted["error"] < 0.2 * abs(fitted["true"])
    assert abs(result["chi2"] - result["dof"]) < 4 * math.sqrt(2 * result["dof"])
    residuals = column(tmp_path / "fit.csv", "residual_in_sigma")
    assert sum(each**2 for each in residuals) == pytest.approx(result["chi2"], rel=1e-5)


def test_the_errors_of_a_line_are_those_of_the_textbook(tmp_path: Path) -> None:
    result = computed(tmp_path, "Fit a straight line to synthetic data with noise of 0.3")
    x = column(tmp_path / "fit.csv", "x")
    mean = sum(x) / len(x)
    spread = sum((each - mean) ** 2 for each in x)
    assert result["fit"]["slope"]["error"] == pytest.approx(0.3 / math.sqrt(spread), rel=1e-5)


# -- a random field -----------------------------------------------------------------------------
@pytest.mark.parametrize(("index", "size"), [(-3, 256), (0, 128), (-1.5, 255)])
def test_the_fields_spectrum_has_the_slope_that_was_put_in(
    tmp_path: Path, index: float, size: int
) -> None:
    task = f"Draw a Gaussian random field with index {index}, size = {size}"
    result = computed(tmp_path, task)
    slope = result["slope"]
    assert abs(slope["value"] - index) < 4 * slope["error"]
    assert slope["error"] < 0.1
    assert abs(result["chi2"] - result["rings"]) < 5 * math.sqrt(2 * result["rings"])


def test_the_same_seed_makes_the_same_field(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        folder.mkdir()
        computed(folder, f"Draw a 2-D random field with size 64 and seed {seed}")
    one, same, other = ((folder / "random_field.npy").read_bytes() for folder in folders)
    assert one == same != other


# -- an ODE -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "task",
    [
        "Plot an undamped oscillator",
        "Plot an oscillator with gamma = 0.1, F = 2 and omega_d = 1.3",
        "Plot a critically damped oscillator with gamma = 1",
        "Plot an overdamped oscillator with gamma = 50",
        "Plot the resonance of a driven oscillator with omega_d = 1",
        "Plot a pendulum with an initial angle of 170 degrees",
    ],
)
def test_the_integration_agrees_with_the_analytic_solution(tmp_path: Path, task: str) -> None:
    result = computed(tmp_path, task)
    scale = result["largest_displacement"]
    assert result["largest_difference_from_analytic"] < 1e-6 * scale


def test_a_driven_oscillator_ends_with_its_steady_amplitude(tmp_path: Path) -> None:
    task = "Plot an oscillator with gamma = 0.2, F = 2, omega_d = 1.3 and tmax = 200"
    result = computed(tmp_path, task)
    assert result["steady_amplitude"] == pytest.approx(2 / math.hypot(1 - 1.69, 0.4 * 1.3))
    late = column(tmp_path / "oscillator.csv", "x")[-400:]
    assert max(late) == pytest.approx(result["steady_amplitude"], rel=1e-3)


def test_where_there_is_no_analytic_solution_none_is_claimed(tmp_path: Path) -> None:
    result = computed(tmp_path, "Plot a damped pendulum")
    assert "largest_difference_from_analytic" not in result
    assert "x_analytic" not in rows(tmp_path / "oscillator.csv")[0]


# -- a table of one's own -----------------------------------------------------------------------
def test_a_table_is_described(tmp_path: Path) -> None:
    lines = [f"SN{i % 3},{i},{2 * i if i % 10 else ''},{'NaN' if i % 4 else 1}" for i in range(100)]
    table = "\ufeffname,z,mu $x^2,constant\n" + "\n".join(lines) + "\n"
    (tmp_path / "sn 1.csv").write_text(table, encoding="utf-8")
    result = computed(tmp_path, "Look at my CSV")
    name, z, mu, constant = rows(tmp_path / "csv_summary.csv")
    assert (name["kind"], name["distinct"], name["most_common"]) == ("text", "3", "SN0")
    assert (z["missing"], float(z["mean"]), float(z["median"])) == ("0", 49.5, 49.5)
    assert (mu["missing"], constant["missing"]) == ("10", "75")
    assert result["strongest_correlations"][0]["r"] == pytest.approx(1)
    assert (result["rows"], result["columns"], result["is_cut"]) == (100, 4, False)


@pytest.mark.parametrize(
    ("text", "separator"),
    [("a;b\n1,5;2\n2,5;3\n", ";"), ("a\tb\n1\t2\n", "\t"), ("1|2\n3|4\n", "|")],
)
def test_its_separator_is_found(tmp_path: Path, text: str, separator: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert computed(tmp_path, "Describe t.csv")["separator"] == separator


def test_of_a_long_table_the_first_rows_are_read_and_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 500, encoding="utf-8")
    result = computed(tmp_path, "Describe t.csv with max_rows = 100")
    assert (result["rows"], result["is_cut"]) == (100, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "is empty"), ("a,b\n", "no rows"), ("\n\n", "is empty")],
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert words in refused(tmp_path, "Describe t.csv")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00a,b\n1,\x00\n",
        b"a,a,a\n1,1e999,x\n2,inf\n3,1e300,y,z,w\n",
        b'a,b\n"unclosed,1\n2,3\n',
        b"only text\nhere\n",
        ("a" * 5000 + ",b\n1,2\n2,1\n").encode(),
    ],
)
def test_no_strange_table_ends_in_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    done = by_hand(tmp_path, "Describe t.csv")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or len(done.stderr.splitlines()) == 1
