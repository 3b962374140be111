"""Many runs at once: from a print to the socket, and how many lines a second get through."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.crowd import Crowd, allow_many_files
from bench.figures import Figure
from bench.idle_sockets import cpu_seconds
from bench.watching import new_session
from tests.deployment import Deployment, Shape, wait_until

# they wait for each other, so that no start falls into what is measured
PACED = """```python
import sys, time
print("ready", flush=True)
begin = {begin}
for n in range({lines}):
    due = begin + n / {rate}
    while (early := due - time.time()) > 0:
        time.sleep(early)
    sys.stdout.write(f"@{{time.time():.6f}}\\n")
    sys.stdout.flush()
```"""
BURST = """```python
import sys, time
print("ready", flush=True)
time.sleep(max(0, {begin} - time.time()))
print(f"@{{time.time():.6f}}", flush=True)
for n in range({lines}):
    sys.stdout.write(f"line {{n:9d}} of a burst, as long as a line of a log often is\\n")
```"""
START_SECONDS = 20.0  # until all have begun, and as many more for each run
START_SECONDS_EACH = 0.5
PACED_SECONDS = 15


@dataclass(frozen=True)
class Case:
    """So many runs at once, each printing so many lines a second."""

    runs: int
    rate: int
    promised_p99: float


CASES = (Case(1, 1_000, 60), Case(20, 50, 250), Case(50, 50, 400))
MOST_RUNS = 50
BURSTS = ((1, 60_000), (50, 4_000))  # runs, lines of each


# one process stores for all runs of the host; each supervisor stores for itself
WAYS = {"": {}, ", committed apart": {"CMBAGENT_GROUP_COMMIT": "0"}}


def measure(shapes: tuple[Shape, ...]) -> Iterator[Figure]:
    allow_many_files()
    for shape in shapes:
        for way, env in WAYS.items():
            with Deployment.running(shape, workers=MOST_RUNS, env=env) as house:
                for case in CASES:
                    yield from paced(house, case, way)
                for runs, lines in BURSTS:
                    yield burst(house, runs, lines, way)


def paced(house: Deployment, case: Case, way: str = "") -> Iterator[Figure]:
    lines, begin = case.rate * PACED_SECONDS, begin_of(case.runs)
    report, busy = together(house, case.runs, begin, PACED, lines=lines, rate=case.rate)
    assert report["told"]["n"] == case.runs * lines, "a line is missing"
    what = f"print to socket, {case.runs} runs of {case.rate:,} lines/s{way}"
    told, stored, shape = report["told"], report["stored"], house.shape
    yield Figure(f"{what}: p50", shape, "ms", [told["p50"]])
    yield Figure(f"{what}: p99", shape, "ms", [told["p99"]], None if way else case.promised_p99)
    yield Figure(f"{what}: from its storing on, p99", shape, "ms", [stored["p99"]])
    yield Figure(f"{what}: events", shape, "", [report["events"]])
    yield Figure(f"{what}: house", shape, "% of a core", [100 * busy / PACED_SECONDS])


def burst(house: Deployment, runs: int, lines: int, way: str = "") -> Figure:
    """From the first print to the arrival of the last line."""
    begin = begin_of(runs)
    report, _ = together(house, runs, begin, BURST, lines=lines)
    assert report["lines"] == runs * (lines + 1), "a line is missing"
    rate = runs * lines / (report["line_at"] - begin)
    name = f"lines stored and delivered, {runs} runs{way}"
    return Figure(name, house.shape, "lines/s", [rate], more_is_better=True)


def begin_of(runs: int) -> float:
    return time.time() + START_SECONDS + START_SECONDS_EACH * runs


def together(
    house: Deployment, runs: int, begin: float, task: str, **values: int
) -> tuple[dict[str, Any], float]:
    """The report of sockets that followed these runs, one each, from `begin` to their ends, and
    the processor seconds of the house meanwhile."""
    sessions = [new_session(house) for _ in range(runs)]
    text = task.format(begin=begin, **values)
    with Crowd(house) as crowd:
        crowd.join(sessions)
        started = [house.start_run(text, session) for session in sessions]
        wait_until(lambda: crowd.report()["lines"] == runs, within=60, what="runs that are ready")
        crowd.order("forget")
        if time.time() > begin:
            raise RuntimeError("the runs began too late: other work holds the machine")
        time.sleep(begin - time.time())
        before = busy_seconds(house)
        time.sleep(PACED_SECONDS)
        busy = sum(now - before.get(pid, 0.0) for pid, now in busy_seconds(house).items())
        for run in started:
            house.wait_for(run, "completed", within=300)
        heads = {session: house.get(f"sessions/{session}")["last_seq"] for session in sessions}
        report = crowd.wait_for(heads, within=60)
    assert not report["missing"] + report["gaps"] + report["doubles"], "the stream is not exact"
    return report, busy


def busy_seconds(house: Deployment) -> dict[int, float]:
    """Processor time of web, workers, engines and code."""
    found = {}
    for pid in house.living_processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
            found[pid] = cpu_seconds(pid)
    return found
