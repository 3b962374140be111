"""Journals that releases left behind; every later release replays them.

`python -m tests.cmbagent.golden` writes the one of this release, once: a run that began with it
may go on with any release that comes after.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cmbagent import __version__
from cmbagent.context import Run
from cmbagent.report import Report
from cmbagent.workflows.one_shot import one_shot
from tests.cmbagent.in_process import Book, Said, Script, run_with

FOLDER = Path(__file__).parent / "journals"
TASK = "Fit a line to points.csv."
CODE = "open('fit.csv', 'w').write('slope,2\\n')\nprint('slope 2', 'µ')\n"
SAID: tuple[Said, ...] = (
    {"list_files": {}, "read_file": {"path": "points.csv"}},
    {"run_python": {"code": "raise SystemExit('no numbers')"}},
    {"read_file": {"path": "absent.csv"}, "install": {"packages": ["emcee==3.1.6"]}},
    {"run_python": {"code": CODE}},
    ["The slope ", "is **2**."],
)
CONFIG = {"maxRounds": 9, "maxAttempts": 3}


async def workflow(run: Run) -> Report:
    """All that the context offers, around an agent that errs."""

    async def look(run: Run, number: int) -> int:
        async def body() -> dict[str, int]:
            return {"seen": number}

        seen = await run.tool("look", {"number": number}, body)
        return int(seen["seen"])

    async def branches(run: Run) -> list[int]:
        seen: list[int] = await asyncio.gather(
            *(run.branch(f"part {number}", look, number) for number in (1, 2))
        )
        return seen

    await run.say("cmbagent", "I begin.")
    await run.step("Look", look, 1)
    await run.step("Look", branches)
    report = await one_shot(run)
    await run.keep_text("report.md", report.result["answer"])
    return report


def run_of(book: Book, work_dir: Path) -> Run:
    (work_dir / "points.csv").write_text("x,y\n1,2\n2,4\n")
    return run_with(book, work_dir=work_dir, task=TASK, config=CONFIG)


async def write(work_dir: Path, patch: pytest.MonkeyPatch) -> None:
    Script(*SAID).speaks_in(patch)
    book = Book()
    report = await workflow(run_of(book, work_dir))
    entries = [{**entry, "events": []} for entry in book.entries]
    kept: dict[str, Any] = {"release": __version__, "report": asdict(report), "entries": entries}
    with (FOLDER / f"{__version__}.json").open("x", encoding="utf-8") as file:
        json.dump(kept, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        Path(folder).chmod(0o755)
        asyncio.run(write(Path(folder), monkeypatch))
