"""`python -m cmbagent` without a model: what it does, shows and refuses."""

from __future__ import annotations

import json
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from cmbagent import wire
from cmbagent.sandbox.probing import Probe
from cmbagent.terminal import place
from cmbagent.terminal.place import Machine
from cmbagent.terminal.words import harmless
from tests.cmbagent.command_line import COUNT, cmbagent, ended, journal_text, started, waited_for
from tests.cmbagent.supervision import fenced


def test_it_runs_code_and_says_that_no_ai_was_used(folder: Path) -> None:
    done = cmbagent(folder, fenced("open('a.txt', 'w').write('1')\nprint(6 * 7)"))
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first == "42"
    assert "without AI" in last
    assert "No AI is used." in done.stderr
    assert "No AI was used." in done.stderr
    assert "a.txt" in done.stderr
    assert "exit code 0" in done.stderr
    (made,) = folder.glob("cmbagent-*/files/a.txt")  # a folder whose name follows from the task
    assert made.read_text() == "1"


def test_code_is_confined_and_the_level_is_said(folder: Path) -> None:
    secret = folder / "secret"
    secret.write_text("hidden")
    outcome = cmbagent(folder, fenced(f"print(open({str(secret)!r}).read())"), "--work-dir", "w")
    assert outcome.returncode == 1
    assert "hidden" not in outcome.stdout
    assert "andbox level" in outcome.stderr
    assert "Traceback" not in outcome.stderr.split("Failed:")[1]


def test_code_cannot_touch_its_journal(folder: Path) -> None:
    task = fenced("open('../journal.jsonl', 'a').write('x')")
    assert cmbagent(folder, task, "--work-dir", "w").returncode == 1
    assert all(json.loads(line) for line in journal_text(folder / "w").splitlines())


def test_the_task_may_come_from_a_file_or_the_input(folder: Path) -> None:
    (folder / "task.md").write_text(fenced("print('from a file')"))
    assert "from a file" in cmbagent(folder, "--file", "task.md", "--work-dir", "a").stdout
    given = cmbagent(folder, "-", "--work-dir", "b", given=fenced("print('from the input')"))
    assert "from the input" in given.stdout


def test_a_failure_is_a_sentence_and_what_to_do(folder: Path) -> None:
    failed = cmbagent(folder, "Sing me a song.", "--work-dir", "w")
    assert failed.returncode == 1
    assert "Failed: No model is connected" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not failed.stdout


def test_links_that_code_leaves_behind_are_named_and_not_followed(folder: Path) -> None:
    done = cmbagent(folder, fenced("import os; os.symlink('/etc/passwd', 'p')"), "--work-dir", "w")
    assert "Left out p: not a regular file but a symbolic link" in done.stderr
    assert "File p " not in done.stderr


# -- used wrongly --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "There is no task"),
        (["  "], "The task is empty"),
        (["x", "--config", "[1]"], "not a JSON object"),
        (["x", "--config", "{"], "not JSON"),
        (["x", "--mode", "sorcery"], "invalid choice"),
        (["x", "--answer", "{}", "--work-dir", "w"], "no open question"),
        (["x", "--model", "gpt-4o", "--work-dir", "w"], "There is no key for openai"),
        (["--file", "nowhere.md"], "cannot be read"),
        (["x", "--work-dir", "w", "--journal", "w/files/j"], "must not lie in"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, words: list[str], said: str) -> None:
    refused = cmbagent(folder, *words)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_journal_of_another_task_is_refused(folder: Path) -> None:
    cmbagent(folder, COUNT, "--work-dir", "w")
    before = journal_text(folder / "w")
    refused = cmbagent(folder, "Another task", "--work-dir", "w")
    assert refused.returncode == 2
    assert "belongs to another task" in refused.stderr
    assert journal_text(folder / "w") == before


def test_two_cannot_use_one_journal(folder: Path) -> None:
    first = started(folder, fenced("import time; time.sleep(60)"), "--work-dir", "w")
    waited_for((folder / "w/journal.jsonl").exists)
    waited_for(lambda: "start" in journal_text(folder / "w"))
    second = cmbagent(folder, "--work-dir", "w")
    ended(first, signal.SIGKILL)
    assert second.returncode == 2
    assert "Another process works with the journal" in second.stderr


# -- no confinement ------------------------------------------------------------------------------
def test_where_nothing_confines_a_person_must_allow_each_execution() -> None:
    machine = Machine.of({})
    level_3: wire.Sandbox = {"level": 3, "remedy": "", "uid": None, "readable": []}
    level_2: wire.Sandbox = {**level_3, "level": 2}
    assert machine.must_ask(level_3)
    assert not Machine.of({"CMBAGENT_SANDBOX": "3"}).must_ask(level_3)
    assert not machine.must_ask(level_2)


@pytest.mark.parametrize(
    ("accepted", "works", "used"),
    [
        *[("2", 1, 1), ("2", 2, 2), ("2", None, 3)],
        *[("3", None, 3), ("3", 2, 2)],
        *[("1", 1, 1), ("1", 2, None), ("1", None, None)],
    ],
)
def test_the_best_level_that_works_and_is_accepted_is_used(
    monkeypatch: pytest.MonkeyPatch, accepted: str, works: Any, used: int | None
) -> None:
    monkeypatch.setattr(place, "probe", lambda _: Probe(works, {}, "" if works else "Install it."))
    sandbox = Machine.of({"CMBAGENT_SANDBOX": accepted}).sandbox(uuid.uuid4())
    assert sandbox["level"] == used
    assert bool(sandbox["remedy"]) == (works is None or used is None)


def test_without_the_sandbox_that_is_demanded_code_is_refused(folder: Path) -> None:
    (folder / "bin").mkdir()
    bare = {"CMBAGENT_SANDBOX": "1", "PATH": str(folder / "bin")}
    refused = cmbagent(folder, fenced("print(1)"), "--work-dir", "w", **bare)
    assert refused.returncode == 1
    assert "No sandbox works on this machine" in refused.stderr
    assert "Install bubblewrap" in refused.stderr


# -- words ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),
        ("a\u202eb", "a\\u202eb"),
        ("line\n\ttab µK²", "line\n\ttab µK²"),
    ],
)
def test_text_of_strangers_does_not_drive_the_terminal(hostile: str, shown: str) -> None:
    assert harmless(hostile) == shown
