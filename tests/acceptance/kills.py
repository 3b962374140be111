"""Killing parts of a deployment while runs are on their way, and what must hold afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.deployment import Deployment, command_line, descendants, find, wait_until

LINES = 40
TASK = f"""Count slowly:

```python
import time
for n in range(1, {LINES + 1}):
    print("line", n)
    time.sleep(0.025)
```
"""
KNOWN = [f"line {n}" for n in range(1, LINES + 1)]


Killer = Callable[[Deployment, str], int]  # how many processes it killed


def kill(pids: Iterable[int]) -> int:
    killed = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


def kill_engine(house: Deployment, run: str) -> int:
    return kill(find(f"cmbagent engine {run}"))


def kill_code(house: Deployment, run: str) -> int:
    """The interpreter of the executed block itself."""
    below = descendants(find(f"cmbagent engine {run}"))
    return kill(pid for pid in below if _is_code(command_line(pid)))


def _is_code(command: str) -> bool:
    return "block-" in command and "bwrap" not in command.split(" ", maxsplit=1)[0]


def kill_busy_worker(house: Deployment, run: str) -> int:
    worker = house.lease_holder(run)
    return kill([worker] if worker else [])  # none: the run ended while we looked


def kill_idle_worker(house: Deployment, _: str) -> int:
    return kill([pid for pid in house.worker_pids() if " idle" in command_line(pid)][:1])


def kill_cluster(house: Deployment, _: str) -> int:
    return kill(house.cluster_pids())


def kill_committer(house: Deployment, _: str) -> int:
    return kill(house.committer_pids())


def kill_worker_host(house: Deployment, _: str) -> int:
    house.kill("workers")
    house.start("workers", "manage.py", "run_workers")  # as its parent in `make run` would
    return 1


def kill_web(house: Deployment, _: str) -> int:
    house.kill("web")
    house.start_web()
    return 1


KINDS: dict[str, Killer] = {
    "engine": kill_engine,
    "code": kill_code,
    "busy worker": kill_busy_worker,
    "idle worker": kill_idle_worker,
    "cluster": kill_cluster,
    "committer": kill_committer,
    "worker host": kill_worker_host,
    "web": kill_web,
}
UNNOTICED = frozenset({"idle worker", "committer", "web"})  # runs go on as if nothing had been


def kill_until(house: Deployment, kind: str, rng: random.Random, *, kills: int) -> None:
    """Rounds of seeded kills, until so many have really hit something on its way."""
    hits = 0
    for _ in range(10 * kills):
        hits += kill_round(house, kind, rng)
        if hits >= kills:
            return
    raise AssertionError(f"only {hits} of {kills} kills of {kind} hit anything")


def kill_round(house: Deployment, kind: str, rng: random.Random, *, runs: int = 3) -> bool:
    """Some runs, one kill at a random moment, and all that must hold when they are through.
    True when the kill hit: a process, and, where that cannot go unnoticed, a run was recovered."""
    started = [house.start_run(TASK) for _ in range(runs)]
    time.sleep(rng.uniform(0.0, 2.0))
    killed = KINDS[kind](house, rng.choice(started))
    recovered = 0
    for run in started:
        ended = house.wait_for(run, "completed", "failed", "cancelled", within=90)
        assert ended["status"] == "completed", ended
        events = house.events_of(run)
        check_log(events)
        recovered += sum(event["event_type"] == "run_recovered" for event in events)
        assert not find(f"cmbagent engine {run}"), "an engine was left behind"
    wait_until(lambda: not leftovers(house), within=10, what="the end of executed code")
    if kind in UNNOTICED:
        assert recovered == 0, "nothing was lost, so nothing is recovered"
        return killed > 0
    return killed > 0 and recovered > 0


def leftovers(house: Deployment) -> list[str]:
    """Executed code that is still there though nothing runs."""
    return [c for c in map(command_line, house.living_processes()) if "block-" in c]


def check_log(events: list[dict[str, Any]]) -> None:
    """Exactly the known lines, from the attempt whose code finished; those of interrupted attempts
    stay, with run_recovered between; what is finished is not executed again."""
    attempts = attempts_of(events)
    (finished,) = [n for n, attempt in enumerate(attempts) if _has_executed(attempt)]
    assert lines_of(attempts[finished]) == KNOWN, "the code that finished printed everything once"
    for attempt in attempts[:finished]:
        lines = lines_of(attempt)
        assert KNOWN[: len(lines)] == lines or _cut(lines), f"not what was printed: {lines}"
    for attempt in attempts[finished + 1 :]:
        assert lines_of(attempt) == [], "finished code ran again"
    for attempt in attempts[:-1]:
        assert attempt[-1]["event_type"] in {"run_recovered", "run_resumed"}, attempt[-1]
    kinds = [event["event_type"] for event in events]
    assert kinds.count("run_completed") == 1
    assert kinds[-1] == "run_completed"
    check_line_numbers(events)


def attempts_of(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The events cut at each run_started."""
    attempts: list[list[dict[str, Any]]] = []
    for event in events:
        if event["event_type"] == "run_started":
            attempts.append([])
        if attempts:
            attempts[-1].append(event)
    return attempts


def _has_executed(attempt: list[dict[str, Any]]) -> bool:
    return any(event["event_type"] == "code_execution" for event in attempt)


def lines_of(events: list[dict[str, Any]]) -> list[str]:
    output = [e["data"] for e in events if e["event_type"] == "output"]
    return "".join(d["text"] for d in output if d["stream"] == "stdout").splitlines()


def _cut(lines: list[str]) -> bool:
    """A kill may cut the last line in the middle."""
    whole = lines[:-1]
    return KNOWN[: len(whole)] == whole and KNOWN[len(whole)].startswith(lines[-1])


def check_line_numbers(events: list[dict[str, Any]]) -> None:
    """Numbers go up by the lines that were begun, over attempts too."""
    output = [e["data"] for e in events if e["event_type"] == "output" and not e["data"]["cont"]]
    numbers = [data["line"] for data in output]
    assert numbers == sorted(set(numbers)), numbers
