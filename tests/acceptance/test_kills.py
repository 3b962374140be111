"""Promise 2: a run outlives every process. Seeded kills of every kind, on both databases."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.acceptance.kills import KINDS, TASK, check_log, kill_until
from tests.deployment import Deployment, wait_until

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


def test_runs_do_not_wait_for_a_frozen_committer(house: Deployment) -> None:
    (committer,) = wait_until(house.committer_pids, within=30, what="a committer")
    house.freeze(committer)
    try:
        run = house.start_run(TASK)
        assert house.wait_for(run, "completed", "failed", within=60)["status"] == "completed"
        check_log(house.events_of(run))
    finally:
        os.kill(committer, signal.SIGCONT)
    run = house.start_run(TASK)
    house.wait_for(run, "completed", within=60)
    check_log(house.events_of(run))


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_kills_of_each_kind(house: Deployment, kind: str) -> None:
    kill_until(house, kind, seeded(kind, house.shape), kills=50)
