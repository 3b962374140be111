"""How often a run begins again by itself, and how long it waits before. A finished call begins
the count anew. The server and the terminal keep to the same rules."""

from __future__ import annotations

import math

CRASH_LIMIT = 5  # the next crash fails the run
POSTPONEMENT_LIMIT = 10  # the next postponement fails the run
SHORTEST_WAIT_S = 1.0
LONGEST_WAIT_S = 3600.0
LONGEST_GUESS_S = 60.0


def gives_up_after_crash(crashes: int) -> bool:
    """`crashes` since a call was last finished, this one included."""
    return crashes > CRASH_LIMIT


def gives_up_after_postponement(postponements: int) -> bool:
    """`postponements` since a call was last finished, this one included."""
    return postponements > POSTPONEMENT_LIMIT


def seconds_to_wait(postponements: int, asked: float | None) -> float:
    """What the one in the way asked for, within bounds; else ever longer."""
    if asked is None or math.isnan(asked):
        return min(2.0**postponements, LONGEST_GUESS_S)
    return min(max(asked, SHORTEST_WAIT_S), LONGEST_WAIT_S)
