from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from cmbagent.perseverance import CRASH_LIMIT
from execution_app import control
from execution_app.models import Run
from execution_app.services import claim_run, reap_runs, release_dead_supervisor
from sessions_app.models import Event, Session
from tests.conftest import MakeRun, MakeSession

pytestmark = pytest.mark.django_db
AGO = timedelta(seconds=1)


@pytest.fixture
def expired(alice: User, make_session: MakeSession, make_run: MakeRun) -> Run:
    return make_run(
        make_session(alice), status="running", attempt=1, lease_expires_at=timezone.now() - AGO
    )


def test_an_expired_lease_is_taken_back_and_fenced(expired: Run) -> None:
    assert reap_runs() == 1

    expired.refresh_from_db()
    assert (expired.status, expired.attempt, expired.crashes) == ("queued", 2, 1)
    assert (expired.lease_owner, expired.interruption) == ("", "lease_expired")


def test_a_held_lease_is_left_alone(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    later = timezone.now() + timedelta(minutes=1)
    make_run(make_session(alice), status="running", lease_expires_at=later)

    assert reap_runs() == 0


def test_a_recovered_run_is_announced_when_it_goes_on(expired: Run) -> None:
    reap_runs()
    claim_run(owner="next", sandbox_level=1)

    event = Event.objects.get(run_id=expired.pk, event_type="run_recovered")
    assert event.data == {"attempt": 3, "reason": "lease_expired"}


def test_who_asked_to_cancel_gets_that_not_another_attempt(expired: Run) -> None:
    Run.objects.update(cancel_requested_at=timezone.now(), requested_by="alice")

    reap_runs()

    expired.refresh_from_db()
    assert expired.status == "cancelled"
    assert Session.objects.get(pk=expired.session_id).status == "suspended"
    assert Event.objects.get(event_type="run_cancelled").data["by"] == "alice"


def test_who_asked_to_pause_gets_that(expired: Run) -> None:
    Run.objects.update(pause_requested_at=timezone.now(), requested_by="alice")

    reap_runs()

    expired.refresh_from_db()
    assert (expired.status, expired.pause_requested_at) == ("paused", None)


def test_above_the_limit_it_is_a_crash_loop(expired: Run) -> None:
    Run.objects.update(crashes=CRASH_LIMIT)

    reap_runs()

    expired.refresh_from_db()
    assert (expired.status, expired.error_type) == ("failed", "crash_loop")
    assert expired.error_retryable
    assert Event.objects.get(event_type="run_failed").data["suggestion"]


def test_a_dead_supervisors_runs_do_not_wait_for_the_lease(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    later = timezone.now() + timedelta(minutes=1)
    held: dict[str, Any] = {"status": "running", "lease_expires_at": later}
    dead = make_run(make_session(alice), **held, lease_owner=control.owner_name(4711))
    other = make_run(make_session(alice), **held, lease_owner=control.owner_name(4712))

    assert release_dead_supervisor(4711) == 1

    dead.refresh_from_db()
    other.refresh_from_db()
    assert (dead.status, dead.interruption) == ("queued", "worker_died")
    assert other.status == "running"
