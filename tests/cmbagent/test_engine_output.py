"""What executed code prints reaches the console: all of it, in order, bounded."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

import pytest

from cmbagent.relay import Relay
from cmbagent.sandbox import Limits
from tests.cmbagent.supervision import Supervisor, fenced, run, start_message

LINES = "for n in range(50_000):\n    print('line', n)"
BYTES = "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 300)"
BOTH = "import sys\nprint('out')\nprint('err', file=sys.stderr)"


def limits(**changes: int) -> dict[str, int]:
    return dataclasses.asdict(Limits()) | changes


def at_rest(progress: Path) -> int:
    """The number in the file, once it has not changed for a second."""
    before, now = "", "-"
    while before != now or not now:
        before = now
        time.sleep(1)
        now = progress.read_text() if progress.exists() else ""
    return int(now)


def test_every_line_arrives_in_order(work_dir: Path) -> None:
    heard = run(work_dir, fenced(LINES))
    assert heard.stdout.decode().splitlines() == [f"line {n}" for n in range(50_000)]


def test_bytes_are_not_touched(work_dir: Path) -> None:
    assert run(work_dir, fenced(BYTES)).stdout == bytes(range(256)) * 300


def test_stdout_and_stderr_stay_apart(work_dir: Path) -> None:
    heard = run(work_dir, fenced(BOTH))
    assert (heard.stdout, heard.stderr) == (b"out\n", b"err\n")


def test_output_comes_before_the_message_that_follows_it(work_dir: Path) -> None:
    heard = run(work_dir, fenced("print('a' * 70_000)", "print('b')"))
    printed = [
        before[0]
        for message, before in zip(heard.messages, heard.output_before, strict=True)
        if message["t"] == "entry" and message["kind"] == "execution"
    ]
    assert printed == [70_001, 70_003]


def test_output_comes_while_the_code_runs(work_dir: Path) -> None:
    code = "print('begun')\nimport time\ntime.sleep(60)"
    with Supervisor(work_dir) as supervisor:
        supervisor.send(start_message(work_dir, fenced(code)))
        supervisor.until_printed(b"begun")
        assert "code_execution" not in supervisor.heard.kinds()


def test_too_much_output_ends_the_code_and_keeps_what_was_written(work_dir: Path) -> None:
    code = "import sys\nwhile True:\n    sys.stdout.write('x' * 999 + chr(10))"
    heard = run(work_dir, fenced(code), limits=limits(output_bytes=1_000_000))
    assert heard.stdout == (b"x" * 999 + b"\n") * 1000
    assert heard.events("code_execution")[0]["ended_by"] == "output_limit"
    assert heard.error["error_type"] == "code_failed"
    assert "output limit" in heard.error["message"]


def test_the_limit_is_of_both_streams_and_of_each_execution(work_dir: Path) -> None:
    code = (
        "import sys\nsys.stdout.write('x' * 600)\nsys.stdout.flush()\nsys.stderr.write('y' * 600)"
    )
    heard = run(work_dir, fenced("print('z' * 900)", code), limits=limits(output_bytes=1000))
    assert [e["ended_by"] for e in heard.events("code_execution")] == ["exit", "output_limit"]
    assert len(heard.stdout) + len(heard.stderr) == 901 + 1000


def test_a_supervisor_that_does_not_read_makes_the_code_wait(work_dir: Path) -> None:
    code = """
import pathlib
for n in range(2000):
    print("x" * 999)
    pathlib.Path("progress").write_text(str(n))
"""
    with Supervisor(work_dir) as supervisor:
        supervisor.send(start_message(work_dir, fenced(code)))
        supervisor.until("phase_changed")
        assert at_rest(work_dir / "progress") < 1000
        heard = supervisor.until_the_end()
    assert len(heard.stdout) == 2_000_000


def test_a_child_that_outlives_its_parent_does_not_hold_up_the_run(work_dir: Path) -> None:
    code = "import subprocess\nsubprocess.Popen(['sleep', '60'])\nprint('done')"
    heard = run(work_dir, fenced(code))
    assert heard.stdout == b"done\n"
    assert heard.outcome["kind"] == "completed"


def test_a_closed_stdout_is_no_trouble(work_dir: Path) -> None:
    code = "import os\nos.close(1)\nos.close(2)\nopen('made', 'w').close()"
    assert run(work_dir, fenced(code)).outcome["result"]["files"] == ["made"]


@pytest.mark.parametrize("kept_writing", [False, True])
def test_a_pipe_that_somebody_holds_open_is_left(
    capfdbinary: pytest.CaptureFixture[bytes], *, kept_writing: bool
) -> None:
    """The tree is dead, but a process that got away still has the code's stdout."""
    relay = Relay(max_bytes=1 << 20)
    thread = threading.Thread(target=relay.run, args=(lambda: None,))
    held = os.dup(relay.stdout)
    os.write(held, b"last words\n")
    relay.launched()
    relay.tree_ended()
    thread.start()
    if kept_writing:
        os.write(held, b"and more\n")
    thread.join(5)
    os.close(held)
    assert not thread.is_alive()
    assert capfdbinary.readouterr().out.startswith(b"last words\n")
