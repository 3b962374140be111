"""The steps of a plan follow the log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from execution_app.models import Run, Step
from execution_app.services import (
    Claim,
    cancel_run,
    claim_run,
    record_batch,
    release_crashed,
    release_run,
    retry_run,
)
from execution_app.services.outcomes import failed
from execution_app.statuses import RunStatus
from sessions_app.event_types import (
    EventData,
    RunCancelled,
    RunFailed,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
)
from sessions_app.models import Event
from tests.conftest import MakeRun, MakeSession

pytestmark = pytest.mark.django_db
BEGUN = StepStarted(index=1, title="Look", agent="engineer")


@pytest.fixture
def claim(alice: User, make_session: MakeSession, make_run: MakeRun) -> Claim:
    make_run(make_session(alice), status="queued")
    return claimed()


def claimed() -> Claim:
    claim = claim_run(owner="host:1", sandbox_level=1)
    assert claim is not None
    return claim


def test_a_step_begins(claim: Claim) -> None:
    record_batch(claim, [BEGUN])

    step = Step.objects.get(run_id=claim.run_id)
    assert (step.index, step.title, step.agent) == (1, "Look", "engineer")
    assert (step.status, step.attempts, step.finished_at) == ("running", 1, None)
    assert step.started_at is not None


@pytest.mark.parametrize(
    ("event", "status", "summary", "error"),
    [
        (StepCompleted(index=1, title="Look", summary="seen"), "completed", "seen", ""),
        (StepFailed(index=1, title="Look", error="dark"), "failed", "", "dark"),
        (StepSkipped(index=1, title="Look"), "skipped", "", ""),
    ],
)
def test_a_step_ends(claim: Claim, event: EventData, status: str, summary: str, error: str) -> None:
    record_batch(claim, [BEGUN])
    record_batch(claim, [event])

    step = Step.objects.get()
    assert (step.status, step.summary, step.error) == (status, summary, error)
    assert (step.agent, step.attempts, step.finished_at is None) == ("engineer", 1, False)


def test_a_step_may_be_skipped_before_it_began(claim: Claim) -> None:
    record_batch(claim, [StepSkipped(index=3, title="Explain")])

    step = Step.objects.get()
    assert (step.index, step.status, step.attempts, step.started_at) == (3, "skipped", 0, None)


def test_a_step_that_is_begun_again_counts_its_attempts(claim: Claim) -> None:
    record_batch(claim, [BEGUN])
    first = Step.objects.get().started_at
    release_crashed(claim, reason="killed")
    assert Step.objects.get().status == "pending", "nobody works on it"

    record_batch(claimed(), [BEGUN])

    step = Step.objects.get()
    assert (step.status, step.attempts, step.started_at) == ("running", 2, first)


def fail(claim: Claim) -> None:
    ending = failed(RunFailed(error_type="x", message="The disk is full."))
    release_run(claim, ending.to, ending.events, **ending.columns)


def cancel(claim: Claim) -> None:
    release_run(claim, RunStatus.CANCELLED, [RunCancelled(by="alice")])


@pytest.mark.parametrize(
    ("end", "error", "last"),
    [
        (fail, "The disk is full.", "run_failed"),
        (cancel, "The run was cancelled.", "run_cancelled"),
    ],
)
def test_a_run_that_ends_ends_the_step_it_was_in(
    claim: Claim, end: Callable[[Claim], None], error: str, last: str
) -> None:
    done = StepCompleted(index=1, title="Look")
    record_batch(claim, [BEGUN, done, StepStarted(index=2, title="Fit")])

    end(claim)

    steps = Step.objects.order_by("index").values_list("status", "error")
    assert list(steps) == [("completed", ""), ("failed", error)]
    told = Event.objects.filter(run_id=claim.run_id).order_by("-seq")[:2]
    assert [(event.event_type, event.step) for event in told] == [
        (last, None),
        ("step_failed", "2"),
    ]


def test_a_run_that_is_cancelled_while_it_waits_ends_the_step_it_was_in(
    claim: Claim, alice: User
) -> None:
    record_batch(claim, [BEGUN])
    release_crashed(claim, reason="killed")

    cancel_run(Run.objects.get(), by=alice)

    step = Step.objects.get()
    assert (step.status, step.error) == ("failed", "The run was cancelled.")


def test_a_retry_begins_the_failed_step_again(claim: Claim, alice: User) -> None:
    record_batch(claim, [BEGUN, StepFailed(index=1, title="Look", error="dark")])
    fail(claim)
    retry_run(Run.objects.get(), by=alice)

    record_batch(claimed(), [BEGUN])

    step = Step.objects.get()
    assert (step.status, step.attempts, step.error, step.finished_at) == ("running", 2, "", None)


def test_the_log_says_in_which_step_it_was(claim: Claim) -> None:
    record_batch(claim, [BEGUN.in_step("1"), StepSkipped(index=2, title="x")])

    events = Event.objects.filter(run_id=claim.run_id).order_by("seq").values_list("step")
    assert list(events) == [(None,), ("1",), (None,)]


@pytest.mark.parametrize(
    "wrong", [{"status": "done"}, {"status": "completed"}, {"finished_at": "2026-01-01T00:00Z"}]
)
def test_the_database_knows_what_a_step_is(claim: Claim, wrong: dict[str, str]) -> None:
    record_batch(claim, [BEGUN])

    with pytest.raises(IntegrityError), transaction.atomic():
        Step.objects.update(**wrong)
