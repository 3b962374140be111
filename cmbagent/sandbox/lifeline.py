"""Killed by the kernel, within milliseconds, when the process at the other end of a pipe is gone."""

from __future__ import annotations

import fcntl
import os
import select

_F_SETSIG = 10  # fcntl names it only where Python was built to
_KILL = 9


def arm(descriptor: int, group: int) -> None:
    """SIGKILL for the process group when the pipe's write end closes, or carries a byte."""
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -group)
    fcntl.fcntl(descriptor, _F_SETSIG, _KILL)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
    if _closed(descriptor):  # before it was armed: no signal will come
        os.killpg(group, _KILL)


def another_end(descriptor: int) -> int:
    """The same end of the same pipe, to be armed for another group."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _closed(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, 0)
    return bool(poller.poll(0))
