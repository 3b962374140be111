"""The engine ends with its supervisor, whatever either of them is doing.

The supervisor holds the write end of a pipe. When it dies, even by kill -9, the kernel closes that
end and sends SIGKILL to the engine's group: in milliseconds, also while C code holds the GIL.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal


def arm(descriptor: int) -> None:
    """Tie the life of the caller's process group to the pipe whose read end this is.

    The supervisor writes nothing: any byte would be the signal too. A caller that does not lead
    its group gets one of its own first, so that strangers are never killed.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    os.set_inheritable(descriptor, False)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
    if _other_end_is_closed(descriptor):  # it died before we were armed: no signal will come
        end_group()


def end_group() -> None:
    """Kill the caller and everything in its process group. Does not return."""
    os.killpg(0, signal.SIGKILL)


def _other_end_is_closed(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, 0)
    return bool(poller.poll(0))
