"""One engine process: started, told, frozen, stopped as a whole, proven gone."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from django.conf import settings

PATIENCE = ((signal.SIGINT, 0.5), (signal.SIGTERM, 0.5))  # then SIGKILL
GONE_WITHIN_SECONDS = 5.0
_PASSED_ON = ("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


def engine_environment(work_dir: Path) -> dict[str, str]:
    """All that an engine sees of the server's environment: no secret is among it."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        "LANG": "C.UTF-8",
        **kept,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(work_dir),
        "PYTHONPATH": str(settings.BASE_DIR),
        "PYTHONUNBUFFERED": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


class TreeSurvives(RuntimeError):
    """Something of an engine outlives SIGKILL: another attempt must not begin beside it."""


class EngineProcess:
    """A fresh interpreter in a session of its own, tied to us by the kernel: when we die, the
    lifeline's other end closes and the kernel kills the engine's group."""

    def __init__(self, run_id: str, work_dir: Path, environment: Mapping[str, str]) -> None:
        self.stdout, stdout = os.pipe()
        self.stderr, stderr = os.pipe()
        self.channel, channel = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        ours_to_close = [stdout, stderr, lifeline]
        try:
            self._popen = subprocess.Popen(
                # -P, -s: the work directory, which is HOME too, is full of files that code wrote;
                # none may be imported, not as the user's site packages either
                [
                    *(sys.executable, "-P", "-s", "-m", "cmbagent.engine", run_id),
                    *(str(channel.fileno()), str(lifeline)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=work_dir,
                env=dict(environment),
                start_new_session=True,
                pass_fds=(channel.fileno(), lifeline),
            )
        except OSError:
            for descriptor in (self.stdout, self.stderr, self._lifeline):
                os.close(descriptor)
            self.channel.close()
            raise
        finally:
            channel.close()
            for descriptor in ours_to_close:
                os.close(descriptor)
        self.pid = self._popen.pid
        self._pidfd = os.pidfd_open(self.pid)
        for descriptor in (self.stdout, self.stderr):
            os.set_blocking(descriptor, False)
        self.channel.setblocking(False)

    def has_ended(self, within: float = 0.0) -> bool:
        return bool(select.select([self._pidfd], [], [], within)[0])

    def freeze(self) -> None:
        """Nothing of it runs on until thaw; it keeps what it has."""
        for pid in tree_members(self.pid):
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in tree_members(self.pid):
            _signal(pid, signal.SIGCONT)

    def stop(self, *, gently: bool) -> int:
        """End the whole tree and wait until nothing of it is left. Returns how many there were."""
        if self._popen.returncode is not None:
            return 0  # reaped: its number may be somebody else's by now
        processes = len(tree_members(self.pid))
        for signum, patience in PATIENCE if gently else ():
            if self.has_ended():
                break
            _signal_group(self.pid, signum)
            self.has_ended(patience)
        kill_tree(
            self.pid
        )  # before reaping the leader: while its zombie is there the number is ours
        self._popen.wait(GONE_WITHIN_SECONDS)
        return processes

    @property
    def exit_status(self) -> int | None:
        return self._popen.poll()

    def close(self) -> None:
        self.channel.close()
        for descriptor in (self.stdout, self.stderr, self._lifeline, self._pidfd):
            os.close(descriptor)


def kill_tree(leader: int) -> None:
    """SIGKILL to everything of an engine's session, until nothing lives. Raises TreeSurvives."""
    deadline = time.monotonic() + GONE_WITHIN_SECONDS
    _signal_group(leader, signal.SIGKILL)
    while members := tree_members(leader):
        if time.monotonic() > deadline:
            raise TreeSurvives(f"processes {members} do not end")
        for pid in members:
            _signal(pid, signal.SIGKILL)
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


def _signal(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def _signal_group(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


def children_of(pid: int) -> set[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return set()
    return {int(child) for child in text.split()}
