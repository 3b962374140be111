"""One engine process: `python -P -s -m cmbagent.engine RUN_ID CHANNEL LIFELINE`.

A supervisor starts it: so, or by a fork of the template process, which ends in the same `main`.
CHANNEL is a connected stream socket, LIFELINE the read end of a pipe; cmbagent.descriptors says
where they stand from then on. -P keeps the work directory, where the run's own code writes, from
being imported.
"""

from __future__ import annotations

import signal
import sys

from cmbagent import descriptors, lifeline


def _begin(arguments: list[str]) -> None:
    """Arm the lifeline, before anything slow."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the loop handles it: no traceback
    channel, lifeline_end = arguments[2:4]
    descriptors.settle([1, 2, int(channel), int(lifeline_end)])
    lifeline.arm(descriptors.LIFELINE)


if __name__ == "__main__":
    _begin(sys.argv)

# Slow, so after the lifeline: a supervisor that dies meanwhile takes this process with it.
import asyncio  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import socket  # noqa: E402

from setproctitle import setproctitle  # noqa: E402

from cmbagent.driver import drive  # noqa: E402

# More than an engine ever needs: an answer that swells takes down its run, not the host. Executed
# code has a limit of its own, which the launcher sets.
_MAX_MEMORY_BYTES = 4 * 2**30


def main(run_id: str) -> int:
    """The exit status: 0 when the outcome was handed over, 128 + n when signal n ended it."""
    setproctitle(f"cmbagent engine {run_id}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would keep the models' keys
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = _MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(_MAX_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))  # soft: children may have more
    return asyncio.run(drive(socket.socket(fileno=descriptors.CHANNEL)))


if __name__ == "__main__":
    # Not sys.exit: a thread that stands in a write to the console would hold up the end.
    os._exit(main(sys.argv[1]))
