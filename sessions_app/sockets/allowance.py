"""How often a client may ask for something that costs."""

from __future__ import annotations

import time

BURST = 200.0
PER_SECOND = 50.0
REWINDS = 20
REWIND_SECONDS = 60.0


class Allowance:
    """A bucket of tokens: full at the start, refilled with time."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = BURST
        self._at = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._at) * PER_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Rewinds:
    """So many within any minute. Each has the log read anew for one client alone."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: list[float] = []

    def take(self) -> bool:
        now = time.monotonic()
        self._taken = [at for at in self._taken if at > now - REWIND_SECONDS]
        if len(self._taken) >= REWINDS:
            return False
        self._taken.append(now)
        return True
