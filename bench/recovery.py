"""How long after a kill the run goes on: until run_recovered is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from bench.figures import Figure
from tests.acceptance.kills import KINDS, TASK
from tests.deployment import Deployment, wait_until

REPEATS = 5
LEASE_SECONDS = 15
SLOW = TASK.replace("0.025", "0.1")
PROMISED = {"engine": 0.5, "code": 0.5, "busy worker": 1.0, "cluster": 4.0, "worker host": 8.0}


def measure(house: Deployment) -> Iterator[Figure]:
    for kind, bound in PROMISED.items():
        seconds = [recovery(house, kind) for _ in range(REPEATS)]
        yield Figure(f"{kind} killed to run_recovered", house.shape, "s", seconds, bound)
    if house.shape == "production":  # SQLite has one host
        seconds = [host_gone(house) for _ in range(3)]
        yield Figure("host gone to run_recovered elsewhere", house.shape, "s", seconds, 20)


def host_gone(house: Deployment) -> float:
    """Another worker host takes over by the lease alone: nothing tells it that this one died."""
    run = house.start_run(TASK.replace("0.025", "1"))
    house.wait_for_output(run, "line 3")
    other = start_other_host(house)
    killed = time.time()
    house.kill("workers")  # and by the kernel all that it had started
    event = recovered(house, run, within=60)
    house.post(f"runs/{run}/cancel")
    house.wait_for(run, "cancelled")
    house.kill(other)
    house.start_workers()
    return stored_at(event) - killed


def start_other_host(house: Deployment) -> str:
    """A second worker host over the same data; its reaper trusts expiry after one lease."""
    name = house.start_other_host()
    time.sleep(LEASE_SECONDS + 3)
    return name


def recovery(house: Deployment, kind: str) -> float:
    run = house.start_run(SLOW)
    house.wait_for_output(run, "line 3")
    killed = time.time()
    KINDS[kind](house, run)
    event = recovered(house, run, within=60)
    house.post(f"runs/{run}/cancel")
    house.wait_for(run, "cancelled")
    return stored_at(event) - killed


def recovered(house: Deployment, run: str, *, within: float) -> dict[str, Any]:
    return wait_until(
        lambda: [e for e in house.events_of(run) if e["event_type"] == "run_recovered"],
        within=within,
        what="run_recovered",
        every=0.1,
    )[0]


def stored_at(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()
