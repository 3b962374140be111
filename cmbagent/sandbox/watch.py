"""The limits that the kernel does not keep for a whole tree."""

from __future__ import annotations

import os
import time

from cmbagent.sandbox import disk, tree

TICK_S = 0.1
_DISK_EVERY_S = 0.5
_OUR_OWN = 8  # processes of bubblewrap's and ours that belong to the tree
_SHARE_OF_TIME = 20  # a look at the disk, or into page tables, waits this many times its length


class Watch:
    """`limits` has the names of Limits' fields."""

    def __init__(self, limits: dict[str, int], work_dir: int) -> None:
        self._limits = limits
        self._work_dir = work_dir
        self._device = os.fstat(work_dir).st_dev
        self.started = time.monotonic()
        self._next_disk = self.started + _DISK_EVERY_S
        self._next_exact = 0.0

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def passed(self) -> str | None:
        """The limit that the tree has passed, as Ending.ended_by names it."""
        if self.seconds() >= self._limits["wall_s"]:
            return "time_limit"
        pids = tree.descendants(os.getpid())
        measures = [found for pid in pids if (found := tree.measure(pid))]
        if sum(found.threads for found in measures) > self._limits["processes"] + _OUR_OWN:
            return "process_limit"
        if self.cpu_passed(measures):
            return "cpu_limit"
        if self._memory_passed(pids, measures):
            return "memory_limit"
        return "disk_limit" if self._disk_passed(pids) else None

    def cpu_passed(self, measures: list[tree.Measure]) -> bool:
        """Counts the living and those that have been buried."""
        buried = os.times()
        used = buried.children_user + buried.children_system
        return used + sum(found.cpu_s for found in measures) >= self._limits["cpu_s"]

    def _memory_passed(self, pids: list[int], measures: list[tree.Measure]) -> bool:
        limit = self._limits["memory_bytes"]
        if (
            sum(found.resident for found in measures) <= limit
            or time.monotonic() < self._next_exact
        ):
            return False
        begun = time.monotonic()  # shared pages were counted once for each process: look closer
        exact = sum(_memory(pid) for pid in pids)
        self._next_exact = _after(begun, 0.0)
        return exact > limit

    def _disk_passed(self, pids: list[int]) -> bool:
        begun = time.monotonic()
        if begun < self._next_disk:
            return False
        limits = self._limits
        usage = disk.usage_of(self._work_dir, max_files=limits["files"])
        deleted = disk.deleted_bytes(pids, self._device)
        self._next_disk = _after(begun, _DISK_EVERY_S)
        too_many = usage.too_deep or usage.files > limits["files"]
        return too_many or usage.bytes + deleted > limits["disk_bytes"]


def _after(begun: float, at_least: float) -> float:
    now = time.monotonic()
    return now + max(at_least, _SHARE_OF_TIME * (now - begun))


def _memory(pid: int) -> int:
    exact = tree.proportional_bytes(pid)
    if exact is not None:
        return exact
    found = tree.measure(pid)
    return found.resident if found else 0
