"""The five descriptors of an engine: 0 /dev/null, 1 and 2 the run's console, 3 the channel to the
supervisor, 4 the lifeline. Whatever starts an engine, it has these and no other."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

CHANNEL, LIFELINE = 3, 4
_TARGETS = (1, 2, CHANNEL, LIFELINE)
_ABOVE = 16  # of every target


def settle(descriptors: Sequence[int]) -> None:
    """Make these stdout, stderr, channel and lifeline, /dev/null the input, and close the rest.

    By way of high numbers: whatever they were before, none is overwritten before it was copied.
    """
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _ABOVE) for descriptor in descriptors]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for source, target in zip(high, _TARGETS, strict=True):
        os.dup2(source, target, inheritable=target in {1, 2})
    os.closerange(LIFELINE + 1, _highest() + 1)


def _highest() -> int:
    return max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208  before anything slow
