"""What a person is shown before they say that code may run."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from cmbagent.context import Question
from cmbagent.terminal.asking import Asker
from cmbagent.terminal.journal_file import JournalFile
from cmbagent.terminal.screen import TextScreen

HIDING = {
    "a return to the line's beginning": "rmtree('data')\rprint('mean')",
    "a change of reading direction": "x = 'a\u202ebc'",
    "an escape sequence": "rmtree('data')\x1b[2K",
    "no width": "pri\u200bnt(1)",
    "a backspace": "rm()\b\b\b\b",
}


def question(context: dict[str, Any]) -> Question:
    return {
        "approval_type": "tool_approval",
        "message": "May this Python run?",
        "options": [{"id": "approve", "label": "Run it"}],
        "context": context,
    }


def shown_for(context: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What stands on the terminal when the person approves."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n\n"))
    terminal = io.StringIO(newline="")

    with JournalFile(tmp_path / "journal.jsonl") as journal:
        answer = asyncio.run(Asker(journal, None, terminal)(question(context)))

    assert answer["resolution"] == "approve"
    return terminal.getvalue()


@pytest.mark.parametrize("code", HIDING.values(), ids=HIDING.keys())
def test_nothing_in_the_code_hides(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = shown_for({"code": code}, tmp_path, monkeypatch)

    expected = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in code)
    assert expected in shown.splitlines()
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_lines_end_as_their_writer_ended_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = shown_for({"code": "a = 1\r\nif a:\n\tprint(a)"}, tmp_path, monkeypatch)

    assert "a = 1\r\nif a:\n\tprint(a)\n" in shown


def test_the_values_that_the_code_reads_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"h": 0.7, "name": "\u202eevil\r"}

    shown = shown_for({"code": "run()", "parameters": values}, tmp_path, monkeypatch)

    assert 'Parameters: {"h": 0.7, "name": "\\u202eevil\\r"}' in shown.splitlines()


def test_a_progress_bar_still_goes_back() -> None:
    stdout = io.StringIO(newline="")

    TextScreen(stdout, io.StringIO()).show("output", {"stream": "stdout", "text": "10 %\r20 %\n"})

    assert stdout.getvalue() == "10 %\r20 %\n"
