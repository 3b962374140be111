"""How often a run begins again by itself, and how long it waits."""

from __future__ import annotations

import math

import pytest

from cmbagent.perseverance import (
    gives_up_after_crash,
    gives_up_after_postponement,
    seconds_to_wait,
)


def test_the_sixth_crash_is_one_too_many() -> None:
    assert [n for n in range(1, 9) if gives_up_after_crash(n)] == [6, 7, 8]


def test_the_eleventh_postponement_is_one_too_many() -> None:
    assert [n for n in range(1, 13) if gives_up_after_postponement(n)] == [11, 12]


@pytest.mark.parametrize("asked", [None, math.nan])
def test_unasked_it_waits_ever_longer_up_to_a_minute(asked: float | None) -> None:
    waits = [seconds_to_wait(number, asked) for number in range(1, 9)]
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(
    ("asked", "waits"), [(-3, 1), (0, 1), (0.5, 1), (7, 7), (3601, 3600), (math.inf, 3600)]
)
def test_it_waits_as_long_as_asked_within_bounds(asked: float, waits: float) -> None:
    assert seconds_to_wait(1, asked) == waits
