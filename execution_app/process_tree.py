"""An engine's tree of processes: found by the session it leads, ended as a whole."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

GONE_WITHIN_SECONDS = 5.0


class TreeSurvives(RuntimeError):
    """Something of an engine outlives SIGKILL: another attempt must not begin beside it."""


def kill_tree(leader: int) -> None:
    """SIGKILL to everything of an engine's session, until nothing lives. Raises TreeSurvives."""
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    signal_group(leader, signal.SIGKILL)
    while members := tree_members(leader):
        if time.monotonic() > deadline:
            raise TreeSurvives(f"processes {members} do not end")
        for pid in members:
            signal_process(pid, signal.SIGKILL)
        time.sleep(0.005)


def bury_engine_before(run_id: str, leader: int) -> None:
    """One engine at a time: what an earlier attempt left on this host is gone when this returns.

    A number may belong to somebody else by now: a leader that lives must be an engine of this run.
    """
    if _is_stranger(run_id, leader):
        return
    kill_tree(leader)


def _is_stranger(run_id: str, leader: int) -> bool:
    try:
        title = Path(f"/proc/{leader}/cmdline").read_bytes()
    except OSError:
        return False  # the leader is gone; its group's number cannot be given away while one lives
    return bool(title) and run_id.encode() not in title


def tree_members(leader: int) -> list[int]:
    """Living processes (no zombies) of an engine's session or group."""
    wanted = str(leader)
    return [pid for pid, state, group, session in _processes() if wanted in {group, session}]


def _processes() -> Iterator[tuple[int, str, str, str]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = Path(entry.path, "stat").read_text()
                state, _, group, session = stat.rpartition(")")[2].split()[:4]
                if state not in "ZX":
                    yield int(entry.name), state, group, session


def signal_process(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def signal_group(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


def children_of(pid: int) -> set[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return set()
    return {int(child) for child in text.split()}
