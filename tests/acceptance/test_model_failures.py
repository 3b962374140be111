"""Whatever an endpoint does, a run ends with an error that says what to do, is mended, or waits in
the queue; no worker waits with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.thinking import (
    PAIRINGS,
    TIMEOUT_SECONDS,
    Job,
    Lab,
    check_whole,
    running_lab,
)
from tests.deployment import Shape, command_line, find, wait_until
from tests.endpoint import sum_of_squares

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


@pytest.fixture(scope="module", params=["paired", pytest.param("swapped", marks=pytest.mark.soak)])
def lab(request: pytest.FixtureRequest, shape: Shape, servers: dict[str, Any]) -> Iterator[Lab]:
    """One personality in each shape: both have met every failure. In a soak each in both."""
    style = PAIRINGS[request.param][shape]
    with running_lab(shape, servers, style, workers=2) as running:
        yield running


@pytest.fixture(autouse=True)
def _anew(lab: Lab) -> Iterator[None]:
    lab.endpoint.forget()
    yield
    lab.endpoint.check()


# (error_type, retryable): whether the same again may help, without anybody's doing
FATAL = {
    "quota": ("model_quota_exceeded", False),
    "unauthorized": ("model_unauthorized", False),
    "forbidden": ("model_unauthorized", False),
    "no_such_model": ("model_not_found", False),
    "context_too_long": ("context_too_long", False),
    "filtered": ("model_refused", False),
    "not_json": ("model_answer_invalid", True),
    "wrong_shape": ("model_answer_invalid", True),
}
# What the agent did so far leads there again: a retry lets it begin anew.
USED_UP = {"context_too_long", "filtered"}
PASSING = (
    "rate_limited",
    "rate_limited_date",
    "rate_limited_silent",
    "server_error",
    "overloaded",
    "silent",
    "stalled",
    "cut",
)
MENDED = ("garbage_arguments", "too_long", "unknown_tool", "empty", "strange_arguments")


@pytest.mark.parametrize("kind", FATAL)
def test_what_a_person_must_mend_fails_the_run(lab: Lab, kind: str) -> None:
    lab.endpoint.misbehave(kind, number=3)
    job = lab.start()

    error = job.failed()

    assert (error["error_type"], error["retryable"]) == FATAL[kind]
    check_readable(lab, error)
    assert job.asked() == [1, 2, 3], "nothing is tried again that cannot help"


def check_readable(lab: Lab, error: dict[str, Any]) -> None:
    """Two sentences for a person: no traceback, no key, no insides."""
    said = f"{error['message']} {error['suggestion']}"
    assert error["message"]
    assert error["suggestion"]
    assert len(said) < 1000
    insides = ("Traceback", "object at 0x", "pydantic", "openai.", lab.endpoint.key)
    assert not [word for word in insides if word in said], said


@pytest.mark.parametrize("kind", sorted(set(FATAL) - USED_UP))
def test_a_retry_goes_on_where_it_failed(lab: Lab, kind: str) -> None:
    lab.endpoint.misbehave(kind, number=3, times=1)
    job = lab.start()
    job.failed()

    lab.house.post(f"runs/{job.run}/retry")

    job.completed()
    assert job.asked() == [1, 2, 3, 3]
    check_whole(job, kills=1)


@pytest.mark.parametrize("kind", sorted(USED_UP))
def test_a_retry_begins_anew_where_going_on_leads_nowhere(lab: Lab, kind: str) -> None:
    lab.endpoint.misbehave(kind, number=3, times=1)
    job = lab.start()
    job.failed()

    lab.house.post(f"runs/{job.run}/retry")

    job.completed()
    assert job.asked() == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_is_waited_for_in_the_queue(lab: Lab, kind: str) -> None:
    lab.endpoint.misbehave(kind, number=2, times=1)
    job = lab.start()

    job.completed()

    assert job.asked() == [1, 2, 2, 3]
    check_whole(job, kills=1)
    [postponed] = job.events("run_postponed")
    check_readable(lab, postponed["data"] | {"suggestion": "-"})
    first, second = [r.at for r in lab.endpoint.requests if r.conversation.number == 2]
    assert second - first >= 1.9, "not before Retry-After, or the first wait of our own"


@pytest.mark.parametrize("kind", MENDED)
def test_the_model_is_told_what_was_wrong(lab: Lab, kind: str) -> None:
    lab.endpoint.misbehave(kind, number=2, times=1)
    job = lab.start()

    job.completed()

    assert f"**{sum_of_squares(job.limit)}**" in job.report()
    assert len(job.asked()) == job.calls + 1, "one question more; it had refused one that lacks why"
    assert len(job.usage()) == job.calls + 1, "nonsense costs too"


def test_a_slow_answer_is_waited_for(lab: Lab) -> None:
    lab.endpoint.misbehave("slow", number=2, seconds=TIMEOUT_SECONDS - 1.0)
    job = lab.start()

    job.completed()

    check_whole(job)


def test_no_worker_waits_for_a_busy_provider(lab: Lab) -> None:
    """429 with Retry-After: the run is queued until then; others get its slot meanwhile."""
    waiting = [lab.start() for _ in range(2)]  # as many as there are workers
    for job in waiting:
        lab.endpoint.misbehave("rate_limited", words=job.words, number=1, times=1, seconds=8)
    for job in waiting:
        wait_until_postponed(job)
    for job in waiting:
        assert lab.house.run(job.run)["status"] == "queued"
        assert not find(f"cmbagent engine {job.run}"), "no engine waits"
    wait_until(lambda: all_idle(lab), within=2, what="idle workers")

    between = lab.start()
    between.completed(within=6)

    assert [job.asked() for job in waiting] == [[1], [1]]
    for job in waiting:
        job.completed()
        first, second = [r.at for r in lab.endpoint.requests_about(job.words)][:2]
        assert 7.9 <= second - first <= 8 + 5
        check_whole(job, kills=1)
        assert crashes_of(job) == 0


def wait_until_postponed(job: Job) -> None:
    wait_until(lambda: job.events("run_postponed"), within=20, what="a postponed run")


def all_idle(lab: Lab) -> bool:
    return all(" idle" in command_line(pid) for pid in lab.house.worker_pids())


def crashes_of(job: Job) -> int:
    [(crashes,)] = job.lab.house.query(
        "SELECT crashes FROM execution_app_run WHERE id = %s", job.lab.key_of(job.run)
    )
    return int(crashes)


def test_a_postponed_run_can_be_cancelled(lab: Lab) -> None:
    lab.endpoint.misbehave("rate_limited", seconds=3600)
    job = lab.start()
    wait_until_postponed(job)

    lab.house.post(f"runs/{job.run}/cancel")

    job.wait("cancelled", within=5)
    assert job.asked() == [1]


def test_an_endless_loop_is_ended(lab: Lab) -> None:
    """It works on and on: its rounds are counted, and what it did is kept."""
    lab.endpoint.misbehave("endless")
    job = lab.start()

    error = job.failed(within=200)

    assert error["error_type"] in {"rounds_exhausted", "attempts_exhausted"}
    check_readable(lab, error)
    assert len(job.asked()) <= 26, "maxRounds is 25"
    assert len(job.journal("execution")) >= 20


def test_two_megabytes_of_words_are_cut_in_the_log_only(lab: Lab) -> None:
    lab.endpoint.misbehave("huge", number=3, size=2 * 2**20)
    job = lab.start()

    ended = job.end()

    assert ended["status"] == "completed"
    said = job.events("agent_message")[-1]["data"]["content"]
    assert said.startswith("So many words.")
    assert len(said) < 33_000
    assert time.monotonic() - lab.endpoint.requests[-1].at < 60


def test_text_that_no_database_takes(lab: Lab) -> None:
    """NUL and a lone surrogate: in the report, and before a call, where it is sent back too."""
    for number in (2, 3):
        lab.endpoint.misbehave("strange_text", number=number)
    job = lab.start()

    job.completed()

    assert "A NUL �, a lone � surrogate." in job.report()
