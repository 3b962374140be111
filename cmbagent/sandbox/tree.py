"""The processes below the launcher: found, measured, and ended as one."""

from __future__ import annotations

import contextlib
import os
import time

KILL = 9
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 5.0  # a process in an uninterruptible call ends when that returns
_PAUSE_S = 0.002


class Measure:
    """Of one process, from /proc/<pid>/stat (see proc(5)): CPU seconds with those of its children
    that it waited for and its own, threads, ticks of the clock when it began, resident bytes with
    what it shares."""

    def __init__(self, line: str) -> None:
        fields = line.rpartition(")")[2].split()
        self.state, self.parent, self.group, self.session = fields[0], *map(int, fields[1:4])
        self.cpu_s = sum(map(int, fields[11:15])) / _TICKS_PER_SECOND
        self.own_cpu_s = sum(map(int, fields[11:13])) / _TICKS_PER_SECOND
        self.threads, self.began = int(fields[17]), int(fields[19])
        self.resident = int(fields[21]) * _PAGE


def measure(pid: int) -> Measure | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return Measure(file.read())
    except OSError:
        return None


def descendants(pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        children = _children(todo.pop())
        found += children
        todo += children
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except OSError:  # it has just ended: its children are somebody else's now
        pass
    return found


def proportional_bytes(pid: int) -> int | None:
    """Memory of a process in which what n share counts as an n-th; None if that is not shown."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            lines = [line for line in file if line.startswith(("Pss:", "SwapPss:"))]
    except OSError:
        return None
    return sum(int(line.split()[1]) for line in lines) * 1024


def reap(*, besides: int) -> None:
    """Bury the orphans that have come to us. The leader stays: while it is unburied its number,
    which is the group's, can be nobody else's."""
    for pid in _children(os.getpid()):
        if pid != besides:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end(group: int) -> None:
    """Kill the group and all other descendants; returns when none is left, nor a zombie."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, KILL)
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, KILL)
        if _all_buried(besides=group):
            break
        time.sleep(_PAUSE_S)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(group, os.WNOHANG)


def _all_buried(*, besides: int) -> bool:
    reap(besides=besides)
    return not [pid for pid in descendants(os.getpid()) if pid != besides or _alive(pid)]


def _alive(pid: int) -> bool:
    found = measure(pid)
    return found is not None and found.state not in "ZX"


def tasks_of_user(uid: int) -> int:
    """Threads that count against this user's RLIMIT_NPROC."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and _owner(name) == uid and (found := measure(int(name))):
            total += found.threads
    return total


def _owner(pid: str) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
