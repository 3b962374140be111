"""How often a client may ask for something that costs."""

from __future__ import annotations

import time
import uuid

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
    """So many within any minute. Each has the log read anew for one client alone; to leave a session
    and to come back to it within the minute is one as well."""

    __slots__ = ("_left", "_taken")

    def __init__(self) -> None:
        self._taken: list[float] = []
        self._left: dict[uuid.UUID, float] | None = None  # few ever leave one

    def take(self) -> bool:
        begin = time.monotonic() - REWIND_SECONDS
        self._taken = [at for at in self._taken if at > begin]
        if len(self._taken) >= REWINDS:
            return False
        self._taken.append(time.monotonic())
        return True

    def note_left(self, session_id: uuid.UUID) -> None:
        now = time.monotonic()
        kept = {each: at for each, at in (self._left or {}).items() if at > now - REWIND_SECONDS}
        self._left = {**kept, session_id: now}

    def is_return(self, session_id: uuid.UUID) -> bool:
        at = (self._left or {}).get(session_id)
        return at is not None and at > time.monotonic() - REWIND_SECONDS
