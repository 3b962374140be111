"""What agents can do, and what they are told of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic_ai import ModelRetry, RunContext

from cmbagent import recipes
from cmbagent.agents import toolbox as tools
from cmbagent.context import Run
from cmbagent.execution import LIMITS, Execution
from cmbagent.relay import Excerpt
from tests.cmbagent.in_process import Book, run_with
from tests.cmbagent.supervision import SCIENCE_ENV


def at(work_dir: Path) -> RunContext[Run]:
    """As a tool is called by the library, which gives the run and much that we do not use."""
    run = run_with(Book(), work_dir=work_dir)
    return cast("RunContext[Run]", SimpleNamespace(deps=run))


def execution(**changes: Any) -> Execution:
    facts: dict[str, Any] = {
        "number": 1,
        "path": "runs/1/block-1.py",
        "exit_code": 0,
        "duration_s": 1.0,
        "ended_by": "exit",
        "signal": None,
        "error": "",
        "stdout": "",
        "stderr": "",
    }
    return Execution(**facts | changes)


# -- code ---------------------------------------------------------------------------------------
async def test_code_is_told_with_its_output_and_its_end(work_dir: Path) -> None:
    code = "import sys\nprint('to a person')\nsys.exit('what failed')"
    told = await tools.run_python(at(work_dir), code)
    assert told.pop("duration_s") > 0
    assert told == {
        "succeeded": False,
        "path": "runs/1/block-1.py",
        "ending": "ended with exit code 1: what failed",
        "exit_code": 1,
        "stdout": "to a person\n",
        "stderr": "what failed\n",
        "files": [],
    }


async def test_output_is_cut_in_the_middle_only(work_dir: Path) -> None:
    code = "print('begin')\nfor n in range(20_000): print('µ' * 10, n)\nprint('end')"
    stdout = (await tools.run_python(at(work_dir), code))["stdout"]
    assert stdout.startswith("begin\n")
    assert stdout.endswith("end\n")
    assert "bytes left out" in stdout
    assert len(stdout) < 13_000


@pytest.mark.parametrize(
    ("size", "is_whole"), [(0, True), (11_999, True), (12_000, True), (12_001, False)]
)
def test_what_fits_is_whole(size: int, is_whole: bool) -> None:
    excerpt, text = Excerpt(), ("0123456789" * 2_000)[:size]
    for begin in range(0, size, 777):
        excerpt.add(text[begin : begin + 777].encode())
    assert (excerpt.text() == text) is is_whole
    assert text.endswith(excerpt.end())


@pytest.mark.parametrize("ended_by", LIMITS)
def test_each_limit_is_explained(ended_by: str) -> None:
    told = tools.outcome(execution(ended_by=ended_by, exit_code=None))
    assert not told["succeeded"]
    fact, remedy = LIMITS[ended_by]
    limit = ended_by.replace("_", " ")
    assert told["ending"] == f"was ended after 1.0 s by the {limit}: {fact}."
    assert execution(ended_by=ended_by).remedy == remedy


def test_what_was_stopped_and_what_died_is_said() -> None:
    assert execution(ended_by="stopped", exit_code=None).ending == "was stopped after 1.0 s."
    died = execution(ended_by="signal", signal=11, exit_code=None)
    assert died.ending == "died of signal 11 (SIGSEGV)."


def test_files_are_named_with_kind_and_size_but_not_the_code_itself() -> None:
    plot = {"path": "a.png", "kind": "plot", "mime": "image/png", "size": 7}
    code = {"path": "runs/1/block-1.py", "kind": "code", "mime": "text/x-python", "size": 1}
    told = tools.outcome(execution(files=[code, plot]))
    assert told["files"] == [{"path": "a.png", "kind": "plot", "size": 7}]


# -- recipes ------------------------------------------------------------------------------------
async def test_every_recipe_is_listed_with_what_it_takes(work_dir: Path) -> None:
    listed = await tools.list_recipes(at(work_dir))
    assert [each["recipe"] for each in listed] == [recipe.id for recipe in recipes.known()]
    spectrum = next(each for each in listed if each["recipe"] == "cmb_power_spectrum")
    h0 = next(each for each in spectrum["parameters"] if each["name"] == "H0")
    assert "40 to 100 km/s/Mpc" in h0["range"]


@pytest.mark.parametrize(
    ("recipe", "parameters", "told"),
    [
        ("no_such_recipe", {}, "cmb_power_spectrum"),
        ("cmb_power_spectrum", {"H0": 700.0}, "40 to 100"),
        ("cmb_power_spectrum", {"w0": -0.9}, "w0"),
    ],
)
async def test_a_recipe_that_cannot_run_is_for_the_model_to_mend(
    work_dir: Path, recipe: str, parameters: dict[str, float | str | None], told: str
) -> None:
    with pytest.raises(ModelRetry, match=told):
        await tools.run_recipe(at(work_dir), recipe, parameters)
    assert not (work_dir / "runs").exists()


async def test_a_recipe_runs_with_what_is_given(work_dir: Path) -> None:
    given: dict[str, float | str | None] = {"lmax": 600.0, "H0": None}
    told = await tools.run_recipe(at(work_dir), "cmb_power_spectrum", given)
    assert told["succeeded"], told
    assert (work_dir / "cmb_power_spectrum.csv").exists()


# -- files --------------------------------------------------------------------------------------
async def test_files_are_listed_below_a_folder_and_counted(work_dir: Path) -> None:
    for name in ("a/one.txt", "a/two.txt", "b.txt"):
        (work_dir / name).parent.mkdir(exist_ok=True)
        (work_dir / name).write_text("12345")
    (work_dir / "link").symlink_to("/etc/passwd")
    everything = await tools.list_files(at(work_dir))
    assert [file["path"] for file in everything["files"]] == ["a/one.txt", "a/two.txt", "b.txt"]
    below = await tools.list_files(at(work_dir), "a/")
    assert [file["path"] for file in below["files"]] == ["a/one.txt", "a/two.txt"]


async def test_a_part_of_a_file_is_read(work_dir: Path) -> None:
    (work_dir / "long.txt").write_text("".join(f"line {n}\n" for n in range(1, 1001)))
    told = await tools.read_file(at(work_dir), "long.txt", 10, 2)
    assert told == {"first_line": 10, "text": "line 10\nline 11\n", "more": True}
    assert (await tools.read_file(at(work_dir), "long.txt", 1, 9999))["text"].count("\n") == 400
    assert not (await tools.read_file(at(work_dir), "long.txt", 999))["more"]


async def test_a_file_without_line_ends_is_bounded(work_dir: Path) -> None:
    (work_dir / "blob.bin").write_bytes(b"\x00\xff" * 500_000)
    told = await tools.read_file(at(work_dir), "blob.bin")
    assert len(told["text"]) <= 4 * tools.MAX_BYTES
    assert told["more"]
    assert "\0" not in told["text"]


async def test_a_line_that_is_too_far_is_not_looked_for(work_dir: Path) -> None:
    with (work_dir / "sparse.bin").open("wb") as file:
        file.truncate(2**31)
    began = time.process_time()
    with pytest.raises(ModelRetry, match=r"Line 900000 of .* is too far"):
        await tools.read_file(at(work_dir), "sparse.bin", 900_000)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("path", ["link", "../secret", "/etc/passwd", "pipe", "absent", ""])
async def test_what_is_no_file_of_the_session_is_not_read(work_dir: Path, path: str) -> None:
    (work_dir / "link").symlink_to("/etc/passwd")
    os.mkfifo(work_dir / "pipe")
    with pytest.raises(ModelRetry, match="cannot be read"):
        await tools.read_file(at(work_dir), path)


# -- packages -----------------------------------------------------------------------------------
async def test_nothing_is_installed_and_a_person_is_named(work_dir: Path) -> None:
    before = sorted((SCIENCE_ENV / "bin").iterdir())
    told = await tools.install(at(work_dir), ["healpy", "emcee==3.1.6", "python-dateutil"])
    assert "Nothing was installed" in told
    assert "person must approve" in told
    assert sorted((SCIENCE_ENV / "bin").iterdir()) == before


@pytest.mark.parametrize(
    "name",
    [
        "-r file",
        "git+https://x/y",
        "./here",
        "a b",
        "--pre",
        "x @ http://y",
        "",
        "a;",
    ],
)
async def test_only_names_of_packages_are_taken(work_dir: Path, name: str) -> None:
    with pytest.raises(ModelRetry, match="Only names"):
        await tools.install(at(work_dir), [name])
