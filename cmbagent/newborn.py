"""From a copy of the template to an engine like any other: what a forked child does first."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Sequence

from cmbagent import descriptors, lifeline
from cmbagent.forking import Order

_IGNORED = {signal.SIGPIPE, signal.SIGXFSZ}  # as Python has them in every process


def become_engine(order: Order, received: Sequence[int]) -> None:
    """Leave the template's session, descriptors, signals and variables behind."""
    os.setsid()
    descriptors.settle(received)
    lifeline.arm(descriptors.LIFELINE)
    _reset_signals()
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    os.chdir(order["work_dir"])


def _reset_signals() -> None:
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_IGN if signum in _IGNORED else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


class Inherited:
    """What a child must not have in common with the template and its other children; to be made
    in the template before it freezes its memory."""

    def __init__(self, generators: Sequence[random.Random]) -> None:
        self._generators = generators
        self._open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        _, hard = self._open_files
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # two for each engine

    def give_up(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._open_files)
        for generator in self._generators:
            generator.seed()
