"""One engine process: started, told, frozen, stopped as a whole, proven gone."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog
from django.conf import settings

from cmbagent.models.proxies import proxies_of
from execution_app.engine_starts import (
    EngineOrder,
    EngineStart,
    Fork,
    FreshInterpreter,
    NoTemplate,
    is_template_known,
)
from execution_app.process_tree import (
    GONE_WITHIN_SECONDS,
    kill_tree,
    signal_group,
    signal_process,
    tree_members,
)

logger = structlog.get_logger(__name__)

PATIENCE = ((signal.SIGINT, 0.5), (signal.SIGTERM, 0.5))  # then SIGKILL
TOLD_WITHIN_SECONDS = 2.0  # an end, by a template; then its exit status stays unknown
_PASSED_ON = ("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


def engine_environment(home: Path) -> dict[str, str]:
    """All that an engine sees of the server's environment: no secret is among it."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        "LANG": "C.UTF-8",
        **kept,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "PYTHONPATH": str(settings.BASE_DIR),
        "PYTHONUNBUFFERED": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def proxies() -> dict[str, str]:
    """The way to a model's provider. For engines, never for the template: a proxy's address may
    hold a password."""
    return proxies_of(os.environ)


class Ends:
    """The pipes to an engine: our ends, and for the moment of its start its own."""

    def __init__(self) -> None:
        self.stdout, self._stdout = os.pipe()
        self.stderr, self._stderr = os.pipe()
        self.channel, self._channel = socket.socketpair()
        self._lifeline, self._held = os.pipe()
        for descriptor in (self.stdout, self.stderr):
            os.set_blocking(descriptor, False)
        self.channel.setblocking(False)

    @property
    def of_the_engine(self) -> tuple[int, int, int, int]:
        """stdout, stderr, channel, lifeline"""
        return self._stdout, self._stderr, self._channel.fileno(), self._lifeline

    def close_those_of_the_engine(self) -> None:
        self._channel.close()
        for descriptor in (self._stdout, self._stderr, self._lifeline):
            os.close(descriptor)

    def close(self) -> None:
        """An engine that still lives ends by this: nobody holds its lifeline any more."""
        self.channel.close()
        for descriptor in (self.stdout, self.stderr, self._held):
            os.close(descriptor)


class EngineProcess:
    """A process in a session of its own, tied to us by the kernel: when we die, the lifeline's
    other end closes and the kernel kills the engine's group. Raises BuildChanged."""

    def __init__(self, run_id: str, work_dir: Path, environment: Mapping[str, str]) -> None:
        order = EngineOrder(run_id, work_dir, environment)
        self._ends, self._start = _start(order)
        self.pid = self._start.pid
        self.stdout, self.stderr = self._ends.stdout, self._ends.stderr
        self.channel = self._ends.channel
        self._is_stopped = False

    @property
    def is_forked(self) -> bool:
        return isinstance(self._start, Fork)

    def has_ended(self, within: float = 0.0) -> bool:
        poller = select.poll()  # select.select takes no descriptor above 1023
        poller.register(self._start.pidfd, select.POLLIN)
        return bool(poller.poll(within * 1000))

    def freeze(self) -> None:
        """Nothing of it runs on until thaw; it keeps what it has."""
        for pid in tree_members(self.pid):
            signal_process(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in tree_members(self.pid):
            signal_process(pid, signal.SIGCONT)

    def stop(self, *, gently: bool) -> int:
        """End the whole tree and wait until nothing of it is left. Returns how many there were.
        Raises TreeSurvives."""
        if self._is_stopped or self._start.is_reaped():
            return 0  # its number may be somebody else's by now
        processes = len(tree_members(self.pid))
        for signum, patience in PATIENCE if gently else ():
            if self.has_ended():
                break
            signal_group(self.pid, signum)
            self.has_ended(patience)
        # before reaping the leader: while its zombie is there the number is ours
        kill_tree(self.pid)
        self._start.reap(TOLD_WITHIN_SECONDS if self.is_forked else GONE_WITHIN_SECONDS)
        self._is_stopped = True
        return processes

    @property
    def exit_status(self) -> int | None:
        """As subprocess has it; None while it is not known, for ever if the template died first."""
        return self._start.status

    def close(self) -> None:
        self._start.close()
        self._ends.close()


def _start(order: EngineOrder) -> tuple[Ends, EngineStart]:
    """From the template when it answers, else as a fresh interpreter; with new pipes, because
    the template may still fork an engine for the ones it was sent: that one ends at once."""
    if is_template_known():
        try:
            return _with_ends(Fork, order)
        except NoTemplate as error:
            logger.info("template_not_used", reason=str(error))
    return _with_ends(FreshInterpreter, order)


def _with_ends(
    start: Callable[[EngineOrder, Sequence[int]], EngineStart], order: EngineOrder
) -> tuple[Ends, EngineStart]:
    ends = Ends()
    try:
        return ends, start(order, ends.of_the_engine)
    except BaseException:
        ends.close()
        raise
    finally:
        ends.close_those_of_the_engine()
