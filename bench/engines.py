"""Engines forked from the template against fresh interpreters: how soon, and how much memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bench.figures import Figure, percentile
from bench.idle_sockets import pss_kb
from bench.watching import new_session
from tests.cmbagent import templates
from tests.deployment import Deployment, Shape, wait_until

REPEATS = 40
WARM = 3
ENGINES = 8
IDLE_ENGINES = 20
SETTLE_SECONDS = 3.0
SLEEPER = "```python\nimport time\nprint('asleep', flush=True)\ntime.sleep(600)\n```"
PROMISED_EVENT_MS, PROMISED_LINE_MS, PROMISED_MB = 150, 400, 12


def measure(shapes: tuple[Shape, ...] = ("embedded", "production")) -> Iterator[Figure]:
    yield from idle()
    for shape in shapes:
        with Deployment.running(shape, workers=ENGINES) as house:
            wait_until(house.template_pids, within=60, what="the template")
            wait_until(lambda: is_forking(house), within=120, what="engines from the template")
            yield from starts(house, "template", PROMISED_EVENT_MS, PROMISED_LINE_MS)
            yield from memory(house)
            house.kill("workers")  # not drained: then none would claim
            start_without_template(house)
            yield from starts(house, "fresh", None, None)


def start_without_template(house: Deployment) -> None:
    """A cluster that no worker host started: its engines are fresh interpreters."""
    house.env |= {"Q_CLUSTER_NAME": "runs", "CMBAGENT_WORKERS": "1"}
    house.start("workers", "manage.py", "qcluster", "-n", "runs")


def is_forking(house: Deployment) -> bool:
    """A run that came too early for the template had a fresh interpreter."""
    house.wait_for(house.start_run("```python\nprint(1)\n```"), "completed")
    return "template_ready" in house.log.read_text()


def starts(
    house: Deployment, way: str, promised_event: float | None, promised_line: float | None
) -> Iterator[Figure]:
    """One run after the other, on an idle house."""
    for _ in range(WARM):
        start(house)
    events, lines = zip(*[start(house) for _ in range(REPEATS)], strict=True)
    for what, values, promised in (
        ("the engine's first event", events, promised_event),
        ("the first line of print(1)", lines, promised_line),
    ):
        name = f"submit to {what}, {way}"
        yield Figure(name, house.shape, "ms", values, promised)
        yield Figure(f"{name}, p95", house.shape, "ms", [percentile(values, 0.95)])


def start(house: Deployment) -> tuple[float, float]:
    """Milliseconds from before the request until the database had the first event of the engine,
    and the first line."""
    session = new_session(house)
    submitted = time.time()
    run = house.start_run("```python\nprint(1)\n```", session)
    house.wait_for(run, "completed")
    stored = [(e["event_type"], _milliseconds(e, submitted)) for e in house.events_of(run)]
    of_server = {"user_message", "run_queued", "run_started"}
    first = next(at for kind, at in stored if kind not in of_server)
    line = next(at for kind, at in stored if kind == "output")
    return first, line


def idle() -> Iterator[Figure]:
    """Engines that wait for their start message."""
    with templates.running() as template, tempfile.TemporaryDirectory() as folder:
        engines = [templates.Ordered(template, Path(folder)) for _ in range(IDLE_ENGINES)]
        for engine in engines:
            engine.born()
        time.sleep(SETTLE_SECONDS)
        yield Figure(
            "idle engine, PSS",
            "both",
            "MB",
            [pss_kb(engine.pid) / 1024 for engine in engines],
            PROMISED_MB,
        )
        yield Figure("its template, PSS", "both", "MB", [pss_kb(template.process.pid) / 1024])
        for engine in engines:
            engine.close()


def memory(house: Deployment) -> Iterator[Figure]:
    """Engines whose agent has called the code that they wait for; the code is not in it."""
    runs = [house.start_run(SLEEPER) for _ in range(ENGINES)]
    for run in runs:
        house.wait_for_output(run, "asleep")
    engines = [pss_kb(house.engine_of(run)) / 1024 for run in runs]
    for run in runs:
        house.post(f"runs/{run}/cancel")
        house.wait_for(run, "cancelled")
    yield Figure("engine that waits for its code, PSS", house.shape, "MB", engines)


def _milliseconds(event: dict[str, str], since: float) -> float:
    return (datetime.fromisoformat(event["timestamp"]).timestamp() - since) * 1000
