"""How long after a kill the run goes on: until run_recovered is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from bench.figures import Figure
from tests.acceptance.kills import KINDS, TASK
from tests.deployment import Deployment, wait_until

REPEATS = 5
SLOW = TASK.replace("0.025", "0.1")
PROMISED = {"engine": 0.5, "busy worker": 1.0, "cluster": 4.0, "worker host": 8.0}


def measure(house: Deployment) -> Iterator[Figure]:
    for kind, bound in PROMISED.items():
        seconds = [recovery(house, kind) for _ in range(REPEATS)]
        yield Figure(f"{kind} killed to run_recovered", house.shape, "s", seconds, bound)
    seconds = [web_healthy(house) for _ in range(REPEATS)]
    yield Figure("web killed to healthy again", house.shape, "s", seconds, 5)


def recovery(house: Deployment, kind: str) -> float:
    run = house.start_run(SLOW)
    house.wait_for_output(run, "line 3")
    killed = time.time()
    KINDS[kind](house, run)
    event = wait_until(
        lambda: [e for e in house.events_of(run) if e["event_type"] == "run_recovered"],
        within=60,
        what=f"recovery from a killed {kind}",
        every=0.1,
    )[0]
    house.post(f"runs/{run}/cancel")
    house.wait_for(run, "cancelled")
    return datetime.fromisoformat(event["timestamp"]).timestamp() - killed


def web_healthy(house: Deployment) -> float:
    """With its restart by the parent: here the bench itself starts it at once."""
    killed = time.monotonic()
    house.kill("web")
    house.start_web()
    return time.monotonic() - killed
