"""Nothing of a tree is left: however it ends, whoever dies first, whoever is frozen."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cmbagent.sandbox import tree
from tests.cmbagent.sandbox_cases import CASES, Case, every, job, place, run, start

# every process of it has the marker among its arguments
TREE = """
import os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)", sys.argv[1]]
subprocess.Popen(SLEEP)
subprocess.Popen(SLEEP, start_new_session=True)
subprocess.Popen(SLEEP, process_group=0)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(SLEEP[0], SLEEP)
    os._exit(0)
time.sleep(0.3)
print("grown", flush=True)
if sys.argv[2] == "stay":
    time.sleep(60)
"""


def living(marker: str) -> list[int]:
    """Processes with the marker among their arguments; zombies show none. The engine's has it
    inside of its order, as JSON."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = entry.name.isdigit() and (entry / "cmdline").read_bytes().split(b"\0")
            if words and marker.encode() in words:
                found.append(int(entry.name))
    return found


def gone(marker: str, within: float) -> bool:
    deadline = time.monotonic() + within
    while living(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not living(marker)


def ended(pid: int, within: float) -> bool:
    """Gone, or a zombie: its new parent may be slow to bury it."""
    deadline = time.monotonic() + within
    while (found := tree.measure(pid)) and found.state != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    return found is None or found.state == "Z"


@dataclass
class Growing:
    """An engine whose tree has grown."""

    engine: subprocess.Popen[str]
    marker: str
    work: Path
    launcher: int

    def finish(self) -> list[dict[str, Any]]:
        output, _ = self.engine.communicate(timeout=30)
        return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def growing(case: Case) -> Iterator[Growing]:
    marker = f"tree-{secrets.token_hex(8)}"
    with place(case) as found:
        order = job(case, found.work, TREE, marker, "stay", wall_s=20)
        with start(order) as engine:
            try:
                assert engine.stdout is not None
                first = json.loads(engine.stdout.readline())
                assert first == {"line": "grown"}, engine.communicate(timeout=30)
                yield Growing(engine, marker, found.work, _child_of(engine.pid))
            finally:
                _thaw_and_kill(engine.pid)
        assert gone(marker, 5)


def _child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _thaw_and_kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)


@every(CASES)
def test_grandchildren_end_with_their_leader(case: Case) -> None:
    marker = f"tree-{secrets.token_hex(8)}"
    with place(case) as found:
        result = run(case, found.work, TREE, marker, "leave")
        assert result.ending is not None
        assert (result.ending.ended_by, result.ending.exit_code) == ("exit", 0)
        assert living(marker) == []  # not a moment later: `wait` has promised it


@every(CASES)
def test_they_are_stopped_though_they_ignore_every_polite_signal(case: Case) -> None:
    marker = f"tree-{secrets.token_hex(8)}"
    with place(case) as found:
        result = run(case, found.work, TREE, marker, "stay", stop_at="grown")
        assert result.ending is not None
        assert (result.ending.ended_by, result.ending.exit_code) == ("stopped", None)
        assert living(marker) == []


@every(CASES)
def test_they_end_with_the_engine(growing: Growing) -> None:
    assert len(living(growing.marker)) >= 4
    os.kill(growing.engine.pid, signal.SIGKILL)
    assert gone(growing.marker, 1)
    assert ended(growing.launcher, 1)


@every(CASES)
def test_they_end_with_a_frozen_engine_and_a_frozen_launcher(growing: Growing) -> None:
    for pid in (growing.engine.pid, growing.launcher):
        os.kill(pid, signal.SIGSTOP)
    os.kill(growing.engine.pid, signal.SIGKILL)
    assert gone(growing.marker, 1)


@every(CASES)
def test_they_end_with_the_launcher(growing: Growing) -> None:
    os.kill(growing.launcher, signal.SIGKILL)
    endings = [word["ending"] for word in growing.finish() if "ending" in word]
    assert [(ending["ended_by"], ending["signal"]) for ending in endings] == [("signal", 9)]
    assert living(growing.marker) == []


@every(CASES)
def test_a_freeze_is_survived(growing: Growing) -> None:
    for pid in (growing.engine.pid, growing.launcher):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.3)
    for pid in (growing.launcher, growing.engine.pid):
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.2)
    assert len(living(growing.marker)) >= 4


@every([case for case in CASES if case.level == 2][:1])
def test_a_launcher_that_stays_frozen_is_given_up(case: Case) -> None:
    marker = f"tree-{secrets.token_hex(8)}"
    with place(case) as found:
        order = job(case, found.work, TREE, marker, "stay", wall_s=1)
        with start(order) as engine:
            assert engine.stdout is not None
            engine.stdout.readline()
            os.kill(_child_of(engine.pid), signal.SIGSTOP)
            output, _ = engine.communicate(timeout=20)
    (ending,) = [json.loads(line)["ending"] for line in output.splitlines()]
    assert ending["ended_by"] == "time_limit"
    assert living(marker) == []
