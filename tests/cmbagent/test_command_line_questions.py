"""Questions of `python -m cmbagent`: to a person at the terminal, or to nobody."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

from tests.cmbagent.command_line import COUNT, PATIENCE_S, cmbagent, command, environment
from tests.cmbagent.supervision import fenced


def test_nobody_to_ask_is_exit_3_and_an_answer_goes_on(folder: Path) -> None:
    asked = cmbagent(folder, COUNT, "--work-dir", "w", "--approve-code")
    assert asked.returncode == 3
    question = json.loads(asked.stdout)
    assert [option["id"] for option in question["options"]] == ["approve", "reject"]
    assert "open('count', 'a')" in question["context"]["code"]
    assert not (folder / "w/files/count").exists()
    still = cmbagent(folder, "--work-dir", "w")  # without the option: it is not forgotten
    assert (still.returncode, json.loads(still.stdout)) == (3, question)
    answered = cmbagent(folder, "--work-dir", "w", "--answer", '{"resolution": "approve"}')
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.startswith("counted\n")


def test_no_is_no(folder: Path) -> None:
    cmbagent(folder, COUNT, "--work-dir", "w", "--approve-code")
    answer = '{"resolution": "reject", "feedback": "not today"}'
    refused = cmbagent(folder, "--work-dir", "w", "--answer", answer)
    assert refused.returncode == 1
    assert "not today" in refused.stderr
    assert not (folder / "w/files/count").exists()


def test_an_answer_that_was_not_offered_is_refused(folder: Path) -> None:
    cmbagent(folder, COUNT, "--work-dir", "w", "--approve-code")
    refused = cmbagent(folder, "--work-dir", "w", "--answer", '{"resolution": "perhaps"}')
    assert refused.returncode == 2
    assert "approve, reject" in refused.stderr


def test_an_answer_is_for_one_question(folder: Path) -> None:
    task = fenced("print('one')", "print('two')")
    cmbagent(folder, task, "--work-dir", "w", "--approve-code")
    asked = cmbagent(folder, "--work-dir", "w", "--answer", '{"resolution": "approve"}')
    assert asked.returncode == 3
    *_, question = asked.stdout.splitlines()
    assert "two" in json.loads(question)["context"]["code"]
    assert asked.stdout.splitlines()[0] == "one"


def test_a_person_at_the_terminal_is_asked(folder: Path) -> None:
    words = [COUNT, "--work-dir", "w", "--approve-code"]
    status, said = on_a_terminal(
        folder, words, [("> ", b"7\n"), ("please", b"1\n"), ("none)", b"\n")]
    )
    assert status == 0, said
    assert "1  Run it" in said
    assert (folder / "w/files/count").read_text() == "x"


def test_the_end_of_the_persons_input_is_nobody(folder: Path) -> None:
    words = [COUNT, "--work-dir", "w", "--approve-code"]
    assert on_a_terminal(folder, words, [("> ", b"\x04")])[0] == 3


def test_an_interrupt_while_a_person_is_asked(folder: Path) -> None:
    words = [COUNT, "--work-dir", "w", "--approve-code"]
    assert on_a_terminal(folder, words, [("> ", b"\x03")])[0] == 130


def on_a_terminal(
    folder: Path, words: list[str], dialogue: list[tuple[str, bytes]]
) -> tuple[int, str]:
    """Exit status and all that stood on the screen; each answer is typed when its cue was read."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_TERMINAL, *command(*words)],
        cwd=folder,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said, read_until, todo = "", 0, list(dialogue)
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.suppress(OSError):  # the terminal is gone with its process
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                data = os.read(ours, 65536)
                if not data:
                    break
                said += data.decode(errors="replace")
            if todo and todo[0][0] in said[read_until:]:
                read_until = len(said)
                os.write(ours, todo.pop(0)[1])
    os.close(ours)
    return process.wait(PATIENCE_S), said


# makes it the controlling terminal, so that its Ctrl-C is a signal
_WITH_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.argv[1], sys.argv[1:])
"""
