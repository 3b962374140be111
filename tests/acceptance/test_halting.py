"""Drained or paused while a model answers: what it costs is brought home, and nobody waits long."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.thinking import Job, Lab, check_whole, running_lab
from tests.deployment import Shape, command_line, descendants, find, wait_until
from tests.endpoint import Request

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]
SOON, LATE = 3.0, 60.0


@pytest.fixture(scope="module")
def lab(shape: Shape, servers: dict[str, Any]) -> Iterator[Lab]:
    with running_lab(shape, servers, CMBAGENT_MODEL_TIMEOUT="90") as running:
        yield running


class Thinking:
    """The endpoint thinks about its second answer for so long, once."""

    def __init__(self, lab: Lab, seconds: float) -> None:
        self.seconds = seconds
        self.arrived, self.awake = threading.Event(), threading.Event()
        lab.endpoint.forget()
        lab.endpoint.on_arrival = self

    def __call__(self, request: Request) -> None:
        if request.conversation.number == 2 and not self.arrived.is_set():
            self.arrived.set()
            self.awake.wait(self.seconds)


def model_calls(job: Job) -> int:
    return len(job.journal("model"))


def drain(lab: Lab) -> float:
    """How long the worker host took to end, its engines with it."""
    began = time.monotonic()
    lab.house.kill("workers", signal.SIGTERM)
    return time.monotonic() - began


def after_a_drain(lab: Lab, job: Job) -> None:
    """The run is queued, no crash is counted, and nothing of its engine is left."""
    assert not find(f"cmbagent engine {job.run}")
    rows = lab.house.query(
        "SELECT status, crashes, interruption FROM execution_app_run WHERE id = %s",
        lab.key_of(job.run),
    )
    assert rows == [("queued", 0, "worker_drained")]


def executes(engine: int) -> bool:
    return any("block-" in command_line(pid) for pid in descendants([engine]))


def cancel(job: Job) -> float:
    began = time.monotonic()
    job.lab.house.post(f"runs/{job.run}/cancel")
    job.wait("cancelled", within=20)
    return time.monotonic() - began


def test_drained_a_model_call_in_flight_reaches_its_entry(lab: Lab) -> None:
    thinking = Thinking(lab, SOON)
    job = lab.start()
    assert thinking.arrived.wait(30)

    seconds = drain(lab)

    after_a_drain(lab, job)
    assert model_calls(job) == 2
    assert seconds < 20
    lab.house.start_workers()
    job.completed()
    check_whole(job)  # no request twice: nothing was killed


def test_drained_a_model_that_does_not_answer_holds_up_nobody(lab: Lab) -> None:
    thinking = Thinking(lab, LATE)
    job = lab.start()
    assert thinking.arrived.wait(30)

    seconds = drain(lab)

    thinking.awake.set()
    after_a_drain(lab, job)
    assert model_calls(job) == 1
    assert 9 < seconds < 20
    lab.house.start_workers()
    job.completed()
    check_whole(job, kills=1)


def test_drained_code_is_stopped_at_once(lab: Lab) -> None:
    lab.endpoint.forget()
    job = lab.start(seconds=60)
    engine = lab.house.engine_of(job.run)
    wait_until(lambda: executes(engine), within=60, what="the code")

    assert drain(lab) < 9

    after_a_drain(lab, job)
    lab.house.start_workers()
    wait_until(lambda: find(f"cmbagent engine {job.run}"), within=30, what="the next attempt")
    cancel(job)


def test_paused_the_answer_is_kept_and_resumed_it_is_not_asked_again(lab: Lab) -> None:
    thinking = Thinking(lab, SOON)
    job = lab.start()
    assert thinking.arrived.wait(30)

    lab.house.post(f"runs/{job.run}/pause")

    job.wait("paused", within=15)
    assert model_calls(job) == 2
    lab.house.post(f"runs/{job.run}/resume")
    job.completed()
    check_whole(job)


def test_cancelled_it_waits_for_no_answer(lab: Lab) -> None:
    thinking = Thinking(lab, LATE)
    job = lab.start()
    assert thinking.arrived.wait(30)

    seconds = cancel(job)

    thinking.awake.set()
    assert seconds < 5
    assert not find(f"cmbagent engine {job.run}")
