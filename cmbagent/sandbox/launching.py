"""The engine's side of the launcher."""

from __future__ import annotations

import contextlib
import dataclasses
import marshal
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

from cmbagent.sandbox import lifeline, tree
from cmbagent.sandbox.jail import EndedBy, Ending, Jail, Limits, SandboxFailed

# The packages' own __init__ files import what the launcher has no time for: it gets bare ones.
_BOOT = """
import sys
for name, path in (("cmbagent", sys.argv.pop(1)), ("cmbagent.sandbox", sys.argv.pop(1))):
    sys.modules[name] = module = type(sys)(name)
    module.__path__ = [path]
from cmbagent.sandbox.launcher import main
main()
"""
_HERE = Path(__file__).resolve().parent
_OBEY_S = 3.0  # a launcher that has not done it by then is frozen, and is killed with the tree
_GRACE_S = 5.0  # beyond the wall time limit, which the launcher watches itself
_POLL_S = 0.2


def launch(
    argv: Sequence[str],
    *,
    jail: Jail,
    limits: Limits,
    env: Mapping[str, str],
    stdout: int,
    stderr: int,
    cwd: str,
) -> Launched:
    """Start a program in the jail. It has these variables, TMPDIR, MPLCONFIGDIR if that is not
    given, /dev/null as input, and no other descriptor than the two outputs.

    Returns at once; that it could not be started is told by `Launched.wait`.
    """
    order = {
        "argv": list(argv),
        "env": dict(env),
        "cwd": cwd,
        "bubblewrap": shutil.which("bwrap"),
        "limits": dataclasses.asdict(limits),
        **dataclasses.asdict(jail),
    }
    return Launched(order, limits, stdout, stderr)


class Launched:
    """One launcher with its tree. `wait` is for one thread; `stop` may come from any."""

    def __init__(self, order: dict[str, object], limits: Limits, stdout: int, stderr: int) -> None:
        read_orders, self._orders = os.pipe()
        pulse, self._lifeline = os.pipe()
        self._report, report = os.pipe()
        theirs = (read_orders, pulse, report)
        try:
            self._process = _start_launcher(theirs, stdout, stderr)
        except OSError:
            self._close()
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._started = time.monotonic()
        self._wall_s = limits.wall_s
        self._group: int | None = None
        self._stopping: EndedBy | None = None
        self._give_up_at = self._started + limits.wall_s + _GRACE_S
        self._lock = threading.Lock()
        packed = marshal.dumps(order)
        self._order(len(packed).to_bytes(8, "big") + packed)

    def stop(self, ended_by: EndedBy) -> None:
        """Kill the tree; `wait` will answer with this reason, unless the code ended first."""
        if ended_by not in get_args(EndedBy):
            raise ValueError(ended_by)
        with self._lock:
            if self._stopping is None:
                self._stopping = ended_by
                self._give_up_at = min(self._give_up_at, time.monotonic() + _OBEY_S)
                self._order(f"{ended_by}\n".encode())

    def wait(self) -> Ending:
        """Blocks until nothing of the tree is left. Raises SandboxFailed."""
        try:
            for line in self._lines():
                word, _, rest = line.partition(" ")
                if word == "group":
                    self._arm(int(rest))
                elif word == "ended":
                    return _ending(rest)
                else:
                    raise SandboxFailed(rest)
            return self._broken()
        finally:
            with self._lock:
                self._close()
            self._process.wait()

    def _order(self, content: bytes) -> None:
        if self._orders >= 0:
            with contextlib.suppress(BrokenPipeError):  # it has ended: `wait` tells how
                _write_all(self._orders, content)

    def _arm(self, group: int) -> None:
        """Have the kernel kill the tree when the launcher dies. All that it writes after this is
        how the tree ended, when there is none any more."""
        self._group = group
        with contextlib.suppress(ProcessLookupError, PermissionError):
            lifeline.arm(self._report, group)

    def _lines(self) -> Iterator[str]:
        """What the launcher tells, until its end of the pipe closes."""
        rest = b""
        while content := self._read():
            *lines, rest = (rest + content).split(b"\n")
            yield from (line.decode() for line in lines)

    def _read(self) -> bytes:
        poller = select.poll()
        poller.register(self._report, select.POLLIN)
        while not poller.poll(_POLL_S * 1000):
            if time.monotonic() > self._give_up_at:
                self._cut_lifeline()
        return os.read(self._report, 4096)

    def _cut_lifeline(self) -> None:
        """The kernel kills launcher and tree, also if they are frozen."""
        with self._lock:
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1

    def _broken(self) -> Ending:
        """The launcher was killed; its tree by the kernel, because of that."""
        self._cut_lifeline()
        deadline = time.monotonic() + _GRACE_S
        while (left := self._members()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        duration = time.monotonic() - self._started
        overdue: EndedBy = "time_limit" if duration > self._wall_s else "signal"
        return Ending(None, signal.SIGKILL, self._stopping or overdue, duration)

    def _members(self) -> list[int]:
        """The living of the tree's group; our session's, since the number can be another's now."""
        session = os.getsid(0)
        found = []
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            seen = tree.measure(pid)
            if seen and (seen.group, seen.session) == (self._group, session):
                found += [pid] if seen.state not in "ZX" else []
        return found

    def _close(self) -> None:
        for descriptor in (self._orders, self._lifeline, self._report):
            if descriptor >= 0:
                os.close(descriptor)
        self._orders = self._lifeline = self._report = -1


def _start_launcher(
    descriptors: tuple[int, int, int], stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """In a group of its own but in our session: what looks for us by session finds it too."""
    arguments = [str(_HERE.parent), str(_HERE), *map(str, descriptors)]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=descriptors,
        process_group=0,
        cwd="/",
        env={},
    )


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _ending(words: str) -> Ending:
    code, number, ended_by, duration = words.split()
    return Ending(_number(code), _number(number), cast("EndedBy", ended_by), float(duration))


def _number(word: str) -> int | None:
    return None if word == "-" else int(word)
