"""Two ways to start an engine: a fork of the template process, or a fresh interpreter.

What both give back is an EngineStart: a pid, a pidfd and, at the end, an exit status.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog
from django.conf import settings

from cmbagent.forking import MAX_PACKET_BYTES, Order, build_id, packet
from execution_app import control
from execution_app.errors import BuildChanged

logger = structlog.get_logger(__name__)

# How a worker host tells its children of its template: the template's build.
TEMPLATE_BUILD = "CMBAGENT_TEMPLATE_BUILD"
TEMPLATE_SOCKET = "template.sock"  # in RUNTIME_DIR
PATIENCE_IN_LEASES = 1 / 10  # for a template that does not answer


@dataclass(frozen=True)
class EngineOrder:
    run_id: str
    work_dir: Path
    environment: Mapping[str, str]


class EngineStart(Protocol):
    """A started engine. `reap` ends our interest in its zombie and learns the exit status."""

    pid: int
    pidfd: int

    @property
    def status(self) -> int | None: ...
    def is_reaped(self) -> bool: ...
    def reap(self, within: float) -> None: ...
    def close(self) -> None: ...


class NoTemplate(Exception):
    """Nobody forks an engine for us now."""


class FreshInterpreter:
    """A child of ours."""

    def __init__(self, order: EngineOrder, descriptors: Sequence[int]) -> None:
        """Raises BuildChanged: its source must be the one that its supervisor knows, too."""
        if is_template_known() and build_id() != os.environ[TEMPLATE_BUILD]:
            raise BuildChanged
        stdout, stderr, channel, lifeline = descriptors
        self._popen = subprocess.Popen(
            # -P, -s: the work directory, which is HOME too, is full of files that code wrote;
            # none may be imported, not as the user's site packages either
            [
                *(sys.executable, "-P", "-s", "-m", "cmbagent.engine", order.run_id),
                *(str(channel), str(lifeline)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=order.work_dir,
            env=dict(order.environment),
            start_new_session=True,
            pass_fds=(channel, lifeline),
        )
        self.pid = self._popen.pid
        self.pidfd = os.pidfd_open(self.pid)

    @property
    def status(self) -> int | None:
        return self._popen.poll()

    def is_reaped(self) -> bool:
        return self._popen.returncode is not None

    def reap(self, within: float) -> None:
        self._popen.wait(within)

    def close(self) -> None:
        os.close(self.pidfd)


class Fork:
    """A child of the template, which keeps its zombie until we close the connection. When the
    template dies the host adopts the engine and reaps it when its whole tree is gone."""

    def __init__(self, order: EngineOrder, descriptors: Sequence[int]) -> None:
        """Raises NoTemplate."""
        self.status: int | None = None
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.pid, self.pidfd = self._ask(order, descriptors)
        except BaseException:
            self._connection.close()  # whatever was forked meanwhile is killed
            raise

    def _ask(self, order: EngineOrder, descriptors: Sequence[int]) -> tuple[int, int]:
        deadline = time.monotonic() + settings.LEASE_SECONDS * PATIENCE_IN_LEASES
        asked: Order = {
            "build": os.environ[TEMPLATE_BUILD],
            "run_id": order.run_id,
            "work_dir": str(order.work_dir),
            "environment": dict(order.environment),
        }
        try:
            self._wait_until(deadline)
            with control.short_path(TEMPLATE_SOCKET) as path:
                self._connection.connect(path)
            self._wait_until(deadline)
            socket.send_fds(self._connection, [packet(asked)], descriptors)
            self._wait_until(deadline)
            content, pidfds, _, _ = socket.recv_fds(self._connection, MAX_PACKET_BYTES, 1)
        except OSError as error:
            raise NoTemplate(f"{type(error).__name__}: {error}") from error
        answer = json.loads(content) if content else {"refused": "none is ready"}
        if not pidfds:
            raise NoTemplate(str(answer.get("refused")))
        return int(answer["pid"]), pidfds[0]

    def _wait_until(self, deadline: float) -> None:
        self._connection.settimeout(max(0.001, deadline - time.monotonic()))

    def is_reaped(self) -> bool:
        try:
            signal.pidfd_send_signal(self.pidfd, 0)  # sends nothing, only asks
        except ProcessLookupError:
            return True
        return False

    def reap(self, within: float) -> None:
        """Learns the status, if the template lives to tell it."""
        self._connection.settimeout(within)
        with contextlib.suppress(OSError):
            if content := self._connection.recv(MAX_PACKET_BYTES):
                self._take(json.loads(content))

    def _take(self, ended: dict[str, Any]) -> None:
        self.status = ended["status"]
        if ended["strangers"]:
            logger.warning("strangers_killed", engine=self.pid, strangers=ended["strangers"])

    def close(self) -> None:
        self._connection.close()
        os.close(self.pidfd)


def is_template_known() -> bool:
    """Whether a worker host with a template started this process."""
    return TEMPLATE_BUILD in os.environ
