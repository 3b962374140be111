"""One engine process: `python -P -m cmbagent.engine RUN_ID`, started by a supervisor.

Descriptors: 1 and 2 the run's console, 3 the channel (a connected stream socket), 4 the read end
of the lifeline. -P keeps the work directory, where the run's own code writes, from being imported.
"""

from __future__ import annotations

import signal
import sys

from cmbagent import lifeline

if __name__ == "__main__":
    lifeline.arm(lifeline.LIFELINE)

# Slow, so after the lifeline: a supervisor that dies meanwhile takes this process with it.
import asyncio
import os
import socket

from setproctitle import setproctitle

from cmbagent.driver import drive


def main(run_id: str) -> int:
    """The exit status: 0 when the outcome was handed over, 128 + n when signal n ended it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the loop has its handlers: no traceback
    setproctitle(f"cmbagent engine {run_id}")
    os.set_inheritable(lifeline.CHANNEL, False)
    return asyncio.run(drive(socket.socket(fileno=lifeline.CHANNEL)))


if __name__ == "__main__":
    # Not sys.exit: a thread that stands in a write to the console would hold up the end.
    os._exit(main(sys.argv[1]))
