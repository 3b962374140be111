"""The journal of `python -m cmbagent`: what is finished is not done again, whatever was killed."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cmbagent.terminal.journal_file import JournalFile, JournalUnusable
from tests.cmbagent.command_line import (
    COUNT,
    PATIENCE_S,
    calls_in,
    cmbagent,
    ended,
    journal_text,
    started,
    waited_for,
)
from tests.cmbagent.supervision import fenced
from tests.endpoint import Endpoint, Request, sum_of_squares, task_of


@pytest.fixture(scope="module")
def served() -> Iterator[Endpoint]:
    with Endpoint.running() as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(served: Endpoint) -> Iterator[Endpoint]:
    yield served
    served.forget()


# -- the file ------------------------------------------------------------------------------------
def test_a_second_start_does_nothing_again(folder: Path) -> None:
    first = cmbagent(folder, COUNT, "--work-dir", "w")
    again = cmbagent(folder, COUNT, "--work-dir", "w")
    assert again.returncode == 0
    assert "are not made again" in again.stderr
    assert again.stdout == first.stdout.replace("counted\n", "")
    assert (folder / "w/files/count").read_text() == "x"


def test_a_torn_last_line_is_dropped_and_its_call_made_again(folder: Path) -> None:
    cmbagent(folder, COUNT, "--work-dir", "w")
    path = folder / "w/journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    position = next(n for n, line in enumerate(lines) if '"kind":"execution"' in line)
    path.write_text("".join(lines[:position]) + lines[position][:-40])
    again = cmbagent(folder, "--work-dir", "w")
    assert again.returncode == 0, again.stderr
    assert (folder / "w/files/count").read_text() == "xx"
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_damaged_journal_is_refused(folder: Path) -> None:
    cmbagent(folder, COUNT, "--work-dir", "w")
    path = folder / "w/journal.jsonl"
    path.write_text(path.read_text().replace('"t":"start"', '"t:"start"', 1))
    refused = cmbagent(folder, "--work-dir", "w")
    assert refused.returncode == 2
    assert "is no journal: line 2" in refused.stderr


def test_an_entry_that_is_forgotten_takes_what_came_after_with_it(folder: Path) -> None:
    with JournalFile(folder / "j") as journal:
        journal.append({"t": "task"})
        for key in ("a#0", "b#0/x#0", "b#0", "c#0"):
            usage = {"agent": key}
            journal.append({"t": "entry", "key": key, "kind": "tool", "usage": usage, "events": []})
        journal.append({"t": "forget", "key": "b#0"})
        assert [entry["key"] for entry in journal.entries] == ["a#0"]
    with JournalFile(folder / "j") as again:
        assert [entry["key"] for entry in again.entries] == ["a#0"]
        paid = [usage["agent"] for usage in again.spent]
        assert paid == ["b#0/x#0", "b#0", "c#0"], "what is forgotten was paid"


def test_a_file_of_something_else_is_no_journal(folder: Path) -> None:
    (folder / "j").write_text('{"t": "other"}\n')
    with pytest.raises(JournalUnusable, match="no journal of a task"):
        JournalFile(folder / "j")
    assert (folder / "j").read_text() == '{"t": "other"}\n'


# -- killed --------------------------------------------------------------------------------------
@pytest.mark.parametrize("moment", ["arrival", "half", "answer"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_at_any_moment_nothing_acknowledged_is_repeated(
    folder: Path, endpoint: Endpoint, moment: str, number: int
) -> None:
    """kill -9 while a model answers, or right after: at most that one call is made again."""
    task = task_of(40 + number, parts=2)
    kill: list[Callable[[], None]] = []

    def strike(request: Request) -> None:
        if request.conversation.number == number and kill:
            kill.pop()()

    setattr(endpoint, f"on_{moment}", strike)
    process = started(folder, task, "--work-dir", "w", **endpoint.environment)
    kill.append(process.kill)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL
    done = cmbagent(folder, task, "--work-dir", "w", **endpoint.environment)
    assert done.returncode == 0, done.stderr
    assert str(sum_of_squares(40 + number)) in done.stdout
    assert len(endpoint.requests) <= 4 + 1
    assert calls_in(folder / "w") == 4
    assert endpoint.key not in journal_text(folder / "w") + done.stdout + done.stderr


def test_killed_while_code_runs_its_tree_ends_and_the_code_runs_again(folder: Path) -> None:
    task = fenced(
        "import os, subprocess, time\n"
        "open('tries', 'a').write('x')\n"
        "if len(open('tries').read()) == 1:\n"
        "    subprocess.Popen(['sleep', '4321.5'])\n"
        "    open('begun', 'w').close()\n"
        "    time.sleep(4321)\n"
        "print('second time')"
    )
    process = started(folder, task, "--work-dir", "w")
    waited_for((folder / "w/files/begun").exists)
    ended(process, signal.SIGKILL)
    waited_for(lambda: not sleepers())
    done = cmbagent(folder, "--work-dir", "w")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("second time\n")


def sleepers() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [str(entry)] * (b"4321.5" in entry.read_bytes().split(b"\0"))
    return found


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal_the_whole_tree_ends_first(
    folder: Path, signum: int, status: int
) -> None:
    task = fenced(
        "import subprocess\n"
        "sleeper = subprocess.Popen(['sleep', '4321.5'])\n"
        "open('begun', 'w').close()\n"
        "sleeper.wait()"
    )
    process = started(folder, task, "--work-dir", "w")
    waited_for((folder / "w/files/begun").exists)
    code, _, err = ended(process, signum)
    assert code == status
    assert not sleepers()
    assert "Stopped." in err
    assert "Traceback" not in err
