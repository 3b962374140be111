"""Promise 2 for runs that think: a kill at any moment repeats at most the one call in flight."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest

from tests.acceptance.kills import kill, kill_busy_worker, kill_cluster, kill_engine
from tests.acceptance.kills import kill_worker_host as kill_host
from tests.acceptance.test_kills import seeded
from tests.acceptance.thinking import (
    PAIRINGS,
    Job,
    Lab,
    Memory,
    check_not_repeated,
    check_totals,
    check_whole,
    running_lab,
)
from tests.deployment import Deployment, Shape, find, wait_until
from tests.endpoint import CONTRARY, PLAIN, Request

pytestmark = pytest.mark.acceptance
MOMENTS = ("on_arrival", "on_half", "on_answer")
PARTS = 3


def kill_template(house: Deployment, run: str) -> int:
    del run
    return kill(house.template_pids())


def kill_worker_and_template(house: Deployment, run: str) -> int:
    return kill_busy_worker(house, run) + kill_template(house, run)


Killer = Callable[[Deployment, str], int]
KINDS: dict[str, Killer] = {
    "engine": kill_engine,
    "worker": kill_busy_worker,
    "template": kill_template,
    "worker and template": kill_worker_and_template,
    "cluster": kill_cluster,
    "worker host": kill_host,
}
AT_A_CALL = [  # killed from the thread that has just answered
    *product(("engine", "worker"), MOMENTS),
    ("template", "on_half"),  # an answer on its way to an engine that lost its parent
    ("worker and template", "on_answer"),  # what comes after it is a fresh interpreter
]
UNNOTICED = frozenset({"template"})


@pytest.fixture(scope="module", params=["paired", pytest.param("swapped", marks=pytest.mark.soak)])
def lab(request: pytest.FixtureRequest, shape: Shape, servers: dict[str, Any]) -> Iterator[Lab]:
    """Costs are known, so that they are seen to be exact: on both databases."""
    style = PAIRINGS[request.param][shape]
    with running_lab(shape, servers, style, priced=(PLAIN, CONTRARY)) as running:
        yield running


@pytest.fixture(autouse=True)
def _anew(lab: Lab) -> Iterator[None]:
    lab.endpoint.forget()
    yield
    lab.endpoint.check()


def kill_at_random(lab: Lab, kind: str, rng: random.Random) -> int:
    """Three runs, one kill, all that must hold. How many processes it killed."""
    jobs = [lab.start(parts=PARTS, seconds=0.1) for _ in range(3)]
    hit = rng.choice(jobs)
    time.sleep(rng.uniform(0.1, 1.2))  # on a quiet machine they are through soon after
    killed = KINDS[kind](lab.house, hit.run)
    memories = [(job, Memory.of(job)) for job in jobs]
    for job, memory in memories:
        job.completed()
        check_not_repeated(job, memory)
        wide = kind not in {"engine", "worker", "worker and template"} or job is hit
        check_whole(job, kills=int(wide and kind not in UNNOTICED))
        assert not find(f"cmbagent engine {job.run}"), "an engine was left behind"
    return killed


@dataclass
class Trap:
    """Kills at the chosen moment of the chosen request, in the thread that serves it: between its
    answer and the acknowledgement there is no other moment so short."""

    killer: Callable[[], int]
    number: int
    killed: int = 0
    sprung: threading.Event = field(default_factory=threading.Event)

    def __call__(self, request: Request) -> None:
        if request.conversation.number == self.number and not self.sprung.is_set():
            self.killed = self.killer()
            self.sprung.set()


def kill_at_a_call(lab: Lab, kind: str, moment: str, rng: random.Random) -> int:
    lab.endpoint.forget()
    number = rng.randint(2, 4)  # something was acknowledged before it
    runs: list[Job] = []

    def killer() -> int:
        wait_until(lambda: runs, within=5, what="the job")
        return KINDS[kind](lab.house, runs[0].run)

    trap = Trap(killer, number)
    setattr(lab.endpoint, moment, trap)
    runs.append(lab.start(parts=PARTS))
    [job] = runs
    assert trap.sprung.wait(60), "the moment came"
    memory = Memory.of(job)
    job.completed()
    check_not_repeated(job, memory)
    check_whole(job, kills=0 if kind in UNNOTICED else 1)
    # what came before this request was acknowledged, or it had not been made
    again = {n for n, times in Counter(job.asked()).items() if times > 1}
    assert again <= {number}, job.asked()
    assert len(job.printed()) == PARTS, "no execution was under way, so none was repeated"
    if trap.killed and moment != "on_answer" and kind not in UNNOTICED:
        assert job.asked().count(number) == 2, "the call in flight was repeated"
    return trap.killed


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_a_random_moment(lab: Lab, kind: str) -> None:
    rng = seeded(kind, lab.house.shape)
    _until_hit(lambda: kill_at_random(lab, kind, rng), kills=2)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "moment"), AT_A_CALL)
def test_killed_at_a_call(lab: Lab, kind: str, moment: str) -> None:
    rng = seeded(f"{kind} {moment}", lab.house.shape)
    _until_hit(lambda: kill_at_a_call(lab, kind, moment, rng), kills=2)


swapped = pytest.mark.parametrize("lab", ["swapped"], indirect=True, scope="module")


@pytest.mark.soak
@swapped
@pytest.mark.parametrize("kind", KINDS)
def test_fifty_kills_at_random_moments(lab: Lab, kind: str) -> None:
    rng = seeded(kind, lab.house.shape)
    _until_hit(lambda: kill_at_random(lab, kind, rng), kills=50)


@pytest.mark.soak
@swapped
@pytest.mark.parametrize(("kind", "moment"), AT_A_CALL)
def test_fifty_kills_at_calls(lab: Lab, kind: str, moment: str) -> None:
    rng = seeded(f"{kind} {moment}", lab.house.shape)
    _until_hit(lambda: kill_at_a_call(lab, kind, moment, rng), kills=50)


def _until_hit(kill_once: Callable[[], int], *, kills: int) -> None:
    """Rounds until so many kills have found a process to kill."""
    hits = 0
    for _ in range(10 * kills):
        hits += kill_once() > 0
        if hits >= kills:
            return
    raise AssertionError(f"only {hits} of {kills} kills hit anything")


@pytest.mark.timeout(120)
def test_the_template_is_killed_with_engines_alive(lab: Lab) -> None:
    """They finish; a fresh interpreter serves meanwhile; the template is back."""
    alive = [lab.start(parts=2, seconds=2) for _ in range(2)]
    engines = [lab.house.engine_of(job.run) for job in alive]
    before = lab.house.template_pids()
    assert before

    kill(before)
    meanwhile = lab.start()

    meanwhile.completed()
    check_whole(meanwhile)
    for job, engine in zip(alive, engines, strict=True):
        assert find(f"cmbagent engine {job.run}") in ([engine], []), "the same engine, or done"
        job.completed()
        check_whole(job)
        assert len(job.events("run_started")) == 1
    again = wait_until(lab.house.template_pids, within=15, what="a new template")
    assert not set(again) & set(before)


@pytest.mark.timeout(120)
def test_another_program_meets_the_journal(lab: Lab) -> None:
    """A finished call had other arguments: the run stops, and a retry goes on from there."""
    lab.endpoint.misbehave("rate_limited", number=3, times=1, seconds=4)
    job = lab.start()
    wait_until(lambda: job.events("run_postponed"), within=30, what="a postponed run")
    second = job.journal("model")[1]
    lab.house.change(
        "UPDATE execution_app_journalentry SET digest = %s WHERE id = %s", "0" * 64, second.id
    )

    error = job.failed()

    assert error["error_type"] == "journal_mismatch"
    assert error["retryable"]
    assert job.asked() == [1, 2, 3], "the old answer was not used, nor asked for again by itself"
    kept = [row for row in job.journal() if row.id < second.id]
    lab.house.post(f"runs/{job.run}/retry")
    job.completed()
    assert job.asked() == [1, 2, 3, 2, 3]
    assert {row.id for row in kept} <= {row.id for row in job.journal()}
    assert len(job.usage()) == 4, "the call that was forgotten was paid for"
    check_totals(job)
    assert f"{job.limit}" in job.report()
