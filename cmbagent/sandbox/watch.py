"""The limits that the kernel does not keep for a whole tree."""

from __future__ import annotations

import os
import time

from cmbagent.sandbox import descriptors, disk, tree

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
        self._next_held = 0.0
        self._held = descriptors.Held()
        self._own_cpu_s: dict[tuple[int, int], float] = {}  # of each process seen alive last time
        self._gone_cpu_s = 0.0

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def passed(self) -> str | None:
        """The limit that the tree has passed, as Ending.ended_by names it."""
        if self.seconds() >= self._limits["wall_s"]:
            return "time_limit"
        pids = tree.descendants(os.getpid())
        measures = {pid: found for pid in pids if (found := tree.measure(pid))}
        if sum(found.threads for found in measures.values()) > self._limits["processes"] + _OUR_OWN:
            return "process_limit"
        if self.cpu_passed(measures):
            return "cpu_limit"
        self._look_at_descriptors(pids)
        if self._memory_passed(measures):
            return "memory_limit"
        return "disk_limit" if self._disk_passed(pids) else None

    def cpu_passed(self, measures: dict[int, tree.Measure]) -> bool:
        """Counts the living and those that have been buried, or what has been seen of each, which
        is more where nobody waits for the dead."""
        buried = os.times()
        used = buried.children_user + buried.children_system
        used += sum(found.cpu_s for found in measures.values())
        return max(used, self._seen_cpu_s(measures)) >= self._limits["cpu_s"]

    def _seen_cpu_s(self, measures: dict[int, tree.Measure]) -> float:
        """A number can be another process's by now: its beginning tells them apart."""
        living = {(pid, found.began): found.own_cpu_s for pid, found in measures.items()}
        gone = self._own_cpu_s.keys() - living.keys()
        self._gone_cpu_s += sum(self._own_cpu_s[process] for process in gone)
        self._own_cpu_s = living
        return self._gone_cpu_s + sum(living.values())

    def _look_at_descriptors(self, pids: list[int]) -> None:
        begun = time.monotonic()
        if begun >= self._next_held:
            limit = self._limits["memory_bytes"]
            self._held = descriptors.held_by(pids, self._device, max_buffer_bytes=limit)
            self._next_held = _after(begun, _DISK_EVERY_S)

    def _memory_passed(self, measures: dict[int, tree.Measure]) -> bool:
        limit = self._limits["memory_bytes"] - self._held.buffer_bytes
        resident = sum(found.resident for found in measures.values())
        if resident <= limit or time.monotonic() < self._next_exact:
            return False
        begun = time.monotonic()  # shared pages were counted once for each process: look closer
        exact = sum(map(_memory, measures))
        self._next_exact = _after(begun, 0.0)
        return exact > limit

    def _disk_passed(self, pids: list[int]) -> bool:
        begun = time.monotonic()
        if begun < self._next_disk:
            return False
        limits = self._limits
        usage = disk.usage_of(self._work_dir, max_files=limits["files"])
        self._next_disk = _after(begun, _DISK_EVERY_S)
        files = usage.files + disk.files_in_memory(pids)
        too_many = usage.hidden or usage.too_deep or files > limits["files"]
        return too_many or usage.bytes + self._held.deleted_bytes > limits["disk_bytes"]


def _after(begun: float, at_least: float) -> float:
    now = time.monotonic()
    return now + max(at_least, _SHARE_OF_TIME * (now - begun))


def _memory(pid: int) -> int:
    exact = tree.proportional_bytes(pid)
    if exact is not None:
        return exact
    found = tree.measure(pid)
    return found.resident if found else 0
