"""A run that an earlier release began goes on with this one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cmbagent import __version__, wire
from cmbagent.errors import JournalMismatch
from tests.cmbagent.golden import FOLDER, SAID, run_of, workflow
from tests.cmbagent.in_process import Book, Script

RELEASES = sorted(FOLDER.glob("*.json"))


@pytest.fixture(params=RELEASES, ids=lambda path: path.stem)
def kept(request: pytest.FixtureRequest) -> dict[str, Any]:
    journal: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return journal


def without(entries: list[wire.Entry], *keys: str) -> list[wire.Entry]:
    return [entry for entry in entries if entry["key"] not in keys]


def test_this_release_left_its_journal() -> None:
    assert __version__ in {path.stem for path in RELEASES}


async def test_it_replays_without_asking_anybody(
    kept: dict[str, Any], work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, book = Script().speaks_in(monkeypatch), Book(kept["entries"])
    report = await workflow(run_of(book, work_dir))
    assert asdict(report) == kept["report"]
    assert (book.entries, script.asked) == ([], [])


async def test_an_unfinished_agent_finds_each_of_its_calls(
    kept: dict[str, Any], work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script().speaks_in(monkeypatch)
    book = Book(without(kept["entries"], "agent:engineer#0"))
    report = await workflow(run_of(book, work_dir))
    assert asdict(report) == kept["report"]
    assert (book.keys, script.asked) == (["agent:engineer#0"], [])


async def test_it_goes_on_where_a_call_is_missing(
    kept: dict[str, Any], work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(*SAID).speaks_in(monkeypatch)
    last = f"agent:engineer#0/model#{len(SAID) - 1}"
    book = Book(without(kept["entries"], "agent:engineer#0", last))
    report = await workflow(run_of(book, work_dir))
    assert report.result == kept["report"]["result"]
    assert book.keys == [last, "agent:engineer#0"]
    assert len(script.asked) == 1


async def test_another_program_is_told_where_it_differs(
    kept: dict[str, Any], work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script(*SAID).speaks_in(monkeypatch)
    entries = without(kept["entries"], "agent:engineer#0")
    for entry in entries:
        if entry["key"] == "agent:engineer#0/tool:install#0":
            entry["payload"]["result"] = "Installed."
    with pytest.raises(JournalMismatch) as raised:
        await workflow(run_of(Book(entries), work_dir))
    assert raised.value.key == "agent:engineer#0/model#3"
