"""What an engine in a process of its own costs: the same one-shot with it, and in the worker.

Both are seen through by the real supervisor, with the database, batches, files and the sandbox.
The endpoint answers in 10 ms; the engineer's first code has a mistake, its second makes a plot.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from bench.figures import Figure
from tests.deployment import BASE_DIR, Deployment
from tests.endpoint import PLAIN, Endpoint
from tests.servers import PostgreSQL, Redis

PAIRS = 20
ANSWER_MS = 10
PROMISED_RATIO = 1.05
PROGRAM = "from bench.one_worker import main; main({pairs}, plot={plot})"


def measure() -> Iterator[Figure]:
    with PostgreSQL.running() as postgres, Redis.running() as redis:
        for plot in (True, False):
            for shape in ("embedded", "production"):
                with Endpoint.running(PLAIN, delay_ms=ANSWER_MS) as endpoint:
                    house = Deployment(
                        shape, postgres=postgres, redis=redis, env=endpoint.environment
                    )
                    try:
                        yield from figures(house, plot=plot)
                    finally:
                        house.remove()


def figures(house: Deployment, *, plot: bool) -> Iterator[Figure]:
    house.prepare(token=False)
    isolated, shared = pairs(house, plot=plot)
    ratios = [one / other for one, other in zip(isolated, shared, strict=True)]
    what = "with a plot" if plot else "that only prints"
    yield Figure(f"one-shot {what}, isolated", house.shape, "s", isolated)
    yield Figure(f"one-shot {what}, in the worker", house.shape, "s", shared)
    name = f"one-shot {what}, isolated ÷ in the worker"
    yield Figure(name, house.shape, "", ratios, PROMISED_RATIO if plot else None)
    difference = statistics.median(isolated) - statistics.median(shared)
    yield Figure(f"{name}, difference", house.shape, "ms", [difference * 1000])


def pairs(house: Deployment, *, plot: bool) -> tuple[list[float], list[float]]:
    """Seconds per run, in a process that is a worker and nothing else."""
    done = subprocess.run(
        [
            *(sys.executable, "manage.py", "shell", "--no-imports", "-v", "0"),
            *("-c", PROGRAM.format(pairs=PAIRS, plot=plot)),
        ],
        cwd=BASE_DIR,
        env=house.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    isolated, shared = json.loads(done.stdout.splitlines()[-1])
    return isolated, shared
