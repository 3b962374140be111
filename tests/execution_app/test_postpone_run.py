"""What is in a run's way and goes by: it waits in the queue, and nobody waits with it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from cmbagent.wire import Failure
from execution_app.errors import LeaseLost
from execution_app.models import Run
from execution_app.services import (
    Claim,
    cancel_run,
    claim_run,
    pause_run,
    postpone_run,
    record_batch,
    resume_run,
    retry_run,
)
from sessions_app.models import Event
from tests.conftest import MakeRun, MakeSession
from tests.execution_app.making import finished

pytestmark = pytest.mark.django_db
BUSY: Failure = {
    "error_type": "model_rate_limited",
    "message": "The model's provider takes no more requests now.",
    "suggestion": "Wait.",
    "retryable": True,
}


@pytest.fixture
def run(alice: User, make_session: MakeSession, make_run: MakeRun) -> Run:
    return make_run(make_session(alice), status="queued")


def claimed() -> Claim:
    Run.objects.update(not_before=None)  # the time has come
    claim = claim_run(owner="host:1", sandbox_level=1)
    assert claim is not None
    return claim


def seconds_left(run: Run) -> float:
    run.refresh_from_db()
    assert run.not_before is not None
    return (run.not_before - timezone.now()).total_seconds()


def test_it_waits_in_the_queue_and_says_until_when(run: Run) -> None:
    postpone_run(claimed(), BUSY, 120.0)

    assert 115 < seconds_left(run) <= 120
    assert (run.status, run.lease_owner, run.crashes) == ("queued", "", 0)
    event = Event.objects.get(run_id=run.pk, event_type="run_postponed")
    until = datetime.fromisoformat(event.data.pop("until"))
    assert run.not_before
    assert abs(until - run.not_before) < timedelta(seconds=0.01)
    assert event.data == {
        "error_type": "model_rate_limited",
        "message": BUSY["message"],
        "attempt": 1,
    }
    assert claim_run(owner="host:1", sandbox_level=1) is None, "not before its time"


def test_it_goes_on_and_nothing_was_interrupted(run: Run) -> None:
    postpone_run(claimed(), BUSY, 1.0)

    claimed()

    run.refresh_from_db()
    assert (run.attempt, run.not_before) == (2, None)
    events = Event.objects.filter(run_id=run.pk).order_by("seq")
    told = list(events.values_list("event_type", flat=True))
    assert told == ["run_started", "run_postponed", "run_started"]


@pytest.mark.parametrize(
    ("asked", "waited"),
    [(0.0, 1), (-5.0, 1), (0.5, 1), (90.0, 90), (3600.0, 3600), (1e9, 3600), (float("inf"), 3600)],
)
def test_a_wait_has_bounds(run: Run, asked: float, waited: float) -> None:
    postpone_run(claimed(), BUSY, asked)

    assert waited - 1 < seconds_left(run) <= waited


def test_a_host_whose_clock_is_ahead_holds_no_run_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed()
    ahead = timezone.now() + timedelta(days=1)
    with monkeypatch.context() as skewed:
        skewed.setattr(timezone, "now", lambda: ahead)
        postpone_run(claim, BUSY, 60.0)

    assert 59 < seconds_left(run) <= 60


@pytest.mark.parametrize("silent", [None, float("nan")])
def test_without_a_time_it_waits_ever_longer(run: Run, silent: float | None) -> None:
    waits = []
    for _ in range(8):
        postpone_run(claimed(), BUSY, silent)
        waits.append(round(seconds_left(run)))

    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_after_ten_in_a_row_it_fails_with_what_was_in_the_way(run: Run) -> None:
    for _ in range(10):
        postpone_run(claimed(), BUSY, 1.0)
        run.refresh_from_db()
        assert run.status == "queued"

    postpone_run(claimed(), BUSY, 1.0)

    run.refresh_from_db()
    assert (run.status, run.error_type, run.error_retryable) == (
        "failed",
        "model_rate_limited",
        True,
    )
    failed = Event.objects.filter(run_id=run.pk).order_by("-seq")[0]
    assert (failed.event_type, failed.data["suggestion"]) == ("run_failed", "Wait.")


def test_ten_in_a_row_means_without_anything_finished_between(run: Run) -> None:
    for number in range(25):
        claim = claimed()
        if number % 10 == 9:
            record_batch(claim, [finished(f"m#{number}")])
        postpone_run(claim, BUSY, 1.0)

    run.refresh_from_db()
    assert (run.status, run.postponements) == ("queued", 6)


@pytest.mark.parametrize(("service", "status"), [(cancel_run, "cancelled"), (pause_run, "paused")])
def test_what_a_person_asked_meanwhile_wins(
    run: Run, alice: User, service: object, status: str
) -> None:
    claim = claimed()
    assert callable(service)
    service(run, by=alice)

    postpone_run(claim, BUSY, 60.0)

    run.refresh_from_db()
    assert (run.status, run.not_before, run.postponements) == (status, None, 0)
    assert not Event.objects.filter(event_type="run_postponed").exists()


def test_who_lost_the_run_postpones_nothing(run: Run) -> None:
    claim = claimed()
    Run.objects.update(attempt=7)

    with pytest.raises(LeaseLost):
        postpone_run(claim, BUSY, 60.0)

    run.refresh_from_db()
    assert (run.status, run.not_before) == ("running", None)


def test_who_asks_for_it_need_not_wait(run: Run, alice: User) -> None:
    postpone_run(claimed(), BUSY, 600.0)
    resume_run(pause_run(run, by=alice), by=alice)
    assert claim_run(owner="host:1", sandbox_level=1) is not None

    Run.objects.update(status="queued", lease_owner="", lease_expires_at=None)
    postpone_run(claimed(), BUSY, 600.0)
    retry_run(cancel_run(run, by=alice), by=alice)
    assert claim_run(owner="host:1", sandbox_level=1) is not None
    run.refresh_from_db()
    assert run.postponements == 0
