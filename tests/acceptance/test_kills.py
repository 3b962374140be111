"""Promise 2: a run outlives every process. Seeded kills of every kind, on both databases."""

from __future__ import annotations

import os
import random

import pytest

from tests.acceptance.kills import KINDS, kill_round
from tests.deployment import Deployment

pytestmark = pytest.mark.acceptance
SEED = int(os.environ.get("KILL_SEED", "20261122"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_runs_complete_by_themselves(house: Deployment, kind: str) -> None:
    rng = random.Random(f"{SEED} {kind} {house.shape}")
    for _ in range(2):
        kill_round(house, kind, rng)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_kills_of_each_kind(house: Deployment, kind: str) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(50):
        kill_round(house, kind, rng)
