"""A parent and its child processes: what dies is started again, and nothing outlives the parent.

Only for processes of ours. Each child leads a session of its own (a terminal's Ctrl-C reaches the
parent alone, which then ends them in order) and dies with the parent, whatever kills that.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import signal
import subprocess
import time
from pathlib import Path

import structlog

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
# How long to wait before a child is started again that died young: longer each time in a row, but
# never so long that somebody would notice it missing for 3 s.
DELAYS = (0.0, 0.5, 1.0, 2.0)
YOUNG_S = 10.0
STRAY_GRACE_S = 1.0  # whoever lost their parent gets this long to end by their own lifeline

logger = structlog.get_logger(__name__)
libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass(frozen=True)
class Program:
    """What a child runs; `kept` means that it is started again when it ends."""

    name: str
    argv: tuple[str, ...]
    kept: bool = True


class Child:
    """One program and the process that runs it now."""

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._starts_again_at: float | None = 0.0
        self._died_young = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def watch(self) -> None:
        """Notices an end, and starts the program when its time has come."""
        if self._process and (code := self._process.poll()) is not None:
            self._process = None
            self._note_end(code)
        if self._starts_again_at is not None and time.monotonic() >= self._starts_again_at:
            self._start()

    def terminate(self) -> None:
        self._starts_again_at = None
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def is_gone(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _start(self) -> None:
        parent = os.getpid()
        self._starts_again_at = None
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(
            self.program.argv,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509  # the parent has one thread
        )
        logger.debug("child_started", child=self.program.name, pid=self._process.pid)

    def _note_end(self, code: int) -> None:
        if not self.program.kept:
            logger.info("child_ended", child=self.program.name, exit_code=code)
            return
        now = time.monotonic()
        self._died_young = self._died_young + 1 if now - self._started_at < YOUNG_S else 0
        delay = DELAYS[min(self._died_young, len(DELAYS) - 1)]
        self._starts_again_at = now + delay
        logger.warning("child_died", child=self.program.name, exit_code=code, again_in_s=delay)


class Children:
    """All children of this process, those it started and those it inherits."""

    def __init__(self, programs: tuple[Program, ...], folder: Path) -> None:
        self._children = [Child(program, folder) for program in programs]
        self._strays: dict[int, float] = {}
        self._others: set[int] | None = None  # whose children are not ours to end

    def adopt_orphans(self) -> None:
        """From now on a descendant that loses its parent becomes our child, not init's. Whoever
        is a child of this process already is somebody else's affair."""
        self._others = _child_pids()
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def watch(self) -> None:
        """To be called a few times a second."""
        for child in self._children:
            child.watch()
        self._end_strays(STRAY_GRACE_S)

    def stop(self, grace: float) -> None:
        """Asks each child to end, waits for at most `grace` seconds, then leaves nobody alive."""
        for child in self._children:
            child.terminate()
        deadline = time.monotonic() + grace
        while not all(child.is_gone() for child in self._children) and time.monotonic() < deadline:
            time.sleep(0.02)
        for child in self._children:
            if not child.is_gone():
                logger.warning("child_killed", child=child.program.name, after_s=grace)
            child.kill()
        self._end_strays_for_good()

    def _end_strays_for_good(self) -> None:
        deadline = time.monotonic() + 2
        while self._stray_pids() and time.monotonic() < deadline:
            self._end_strays(0)
            time.sleep(0.01)

    def _end_strays(self, grace: float) -> None:
        """A killed stray's own children come to us in turn and are found by the next call."""
        now = time.monotonic()
        self._strays = {pid: self._strays.get(pid, now) for pid in self._stray_pids()}
        for pid, since in self._strays.items():
            if not _reap(pid) and now - since >= grace:
                logger.warning("stray_killed", pid=pid, command=_command_line(pid))
                os.kill(pid, signal.SIGKILL)  # not reaped: the number is still theirs

    def _stray_pids(self) -> set[int]:
        if self._others is None:
            return set()
        return _child_pids() - self._others - {child.pid for child in self._children}


def _die_with(parent: int) -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died between fork and here
        os._exit(1)


def _child_pids() -> set[int]:
    own = os.getpid()
    return {int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split()}


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _command_line(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="backslashreplace").strip()
