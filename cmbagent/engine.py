"""One engine process: `python -P -m cmbagent.engine RUN_ID [CHANNEL LIFELINE]`.

A supervisor starts it. Descriptors: 1 and 2 are the run's console, CHANNEL (3) is a connected
stream socket, LIFELINE (4) the read end of a pipe. -P keeps the work directory, where the run's
own code writes, from being imported.
"""

from __future__ import annotations

import signal
import sys

from cmbagent import lifeline

_DESCRIPTORS = ("3", "4")


def _begin(arguments: list[str]) -> int:
    """Arm the lifeline, before anything slow; the channel's descriptor."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the loop handles it: no traceback
    channel, lifeline_end = arguments[2:4] or _DESCRIPTORS
    lifeline.arm(int(lifeline_end))
    return int(channel)


CHANNEL = _begin(sys.argv) if __name__ == "__main__" else -1

# Slow, so after the lifeline: a supervisor that dies meanwhile takes this process with it.
import asyncio  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402

from setproctitle import setproctitle  # noqa: E402

from cmbagent.driver import drive  # noqa: E402


def main(run_id: str, channel: int) -> int:
    """The exit status: 0 when the outcome was handed over, 128 + n when signal n ended it."""
    setproctitle(f"cmbagent engine {run_id}")
    os.set_inheritable(channel, False)
    return asyncio.run(drive(socket.socket(fileno=channel)))


if __name__ == "__main__":
    # Not sys.exit: a thread that stands in a write to the console would hold up the end.
    os._exit(main(sys.argv[1], CHANNEL))
