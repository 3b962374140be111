"""Promise 2: a run outlives every process. Seeded kills of every kind, on both databases."""

from __future__ import annotations

import os
import random

import pytest

from tests.acceptance.kills import KINDS, kill_until
from tests.deployment import Deployment

pytestmark = pytest.mark.acceptance


def seeded(kind: str, shape: str) -> random.Random:
    """A failure is repeated with KILL_SEED=the printed number."""
    seed = os.environ.get("KILL_SEED", "") or str(random.SystemRandom().randrange(10**9))
    print(f"KILL_SEED={seed} {kind} {shape}")
    return random.Random(f"{seed} {kind} {shape}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_runs_complete_by_themselves(house: Deployment, kind: str) -> None:
    kill_until(house, kind, seeded(kind, house.shape), kills=2)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_kills_of_each_kind(house: Deployment, kind: str) -> None:
    kill_until(house, kind, seeded(kind, house.shape), kills=50)
