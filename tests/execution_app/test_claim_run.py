from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.utils import timezone

from cmbagent.wire import Failure
from execution_app.models import Run
from execution_app.services import (
    Claim,
    claim_run,
    delete_session,
    pause_run,
    postpone_run,
    release_crashed,
    resume_run,
)
from execution_app.statuses import RunStatus
from sessions_app.models import Event
from tests.conftest import MakeRun, MakeSession

pytestmark = pytest.mark.django_db


def claim() -> Claim | None:
    return claim_run(owner="host:1", sandbox_level=1)


def test_it_takes_the_lease_and_counts_the_attempt(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    run = make_run(make_session(alice), status="queued")

    claimed = claim()

    assert claimed is not None
    assert (claimed.run_id, claimed.attempt) == (run.pk, 1)
    run.refresh_from_db()
    assert (run.status, run.attempt, run.lease_owner) == ("running", 1, "host:1")
    assert run.host == settings.HOST_NAME
    assert run.sandbox_level == 1


def test_the_lease_is_by_the_databases_clock(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    make_run(make_session(alice), status="queued")

    claim()

    left = timedelta(seconds=settings.LEASE_SECONDS)
    soon = Run.objects.filter(lease_expires_at__gt=Now() + left - timedelta(seconds=5))
    assert soon.filter(lease_expires_at__lte=Now() + left).exists()


def test_nothing_is_claimed_twice(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    make_run(make_session(alice), status="queued")

    assert claim() is not None
    assert claim() is None


@pytest.mark.parametrize("status", sorted(set(RunStatus) - {RunStatus.QUEUED}))
def test_only_queued_runs_are_claimed(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    make_run(make_session(alice), status=status)

    assert claim() is None


@pytest.mark.parametrize("status", ["running", "waiting_approval", "paused"])
def test_a_session_has_one_run_at_a_time(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    session = make_session(alice)
    make_run(session, status=status)
    make_run(session, status="queued")

    assert claim() is None


def test_not_before_is_waited_for(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    later = timezone.now() + timedelta(hours=1)
    make_run(make_session(alice), status="queued", not_before=later)

    assert claim() is None


def test_a_deleted_sessions_run_is_never_begun(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    delete_session(session, by=alice)
    make_run(session, status="queued")

    assert claim() is None


def test_interrupted_runs_come_first(
    alice: User, bob: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    make_run(make_session(bob), status="queued")
    make_run(make_session(alice), status="running")
    interrupted = make_run(
        make_session(alice), status="queued", attempt=2, interruption="worker_died"
    )

    claimed = claim()

    assert claimed is not None
    assert claimed.run_id == interrupted.pk


def put_off(claimed: Claim, by: User) -> None:
    busy: Failure = {"error_type": "e", "message": "m", "suggestion": "", "retryable": True}
    postpone_run(claimed, busy, 1.0)


def pause_and_resume(claimed: Claim, by: User) -> None:
    pause_run(Run.objects.get(pk=claimed.run_id), by=by)
    release_crashed(claimed, reason="it crashed while it was being paused")
    resume_run(Run.objects.get(pk=claimed.run_id), by=by)


@pytest.mark.parametrize("let_go", [put_off, pause_and_resume])
def test_runs_that_let_their_worker_go_wait_for_their_turn(
    alice: User,
    bob: User,
    make_session: MakeSession,
    make_run: MakeRun,
    let_go: Callable[[Claim, User], None],
) -> None:
    for _ in range(3):
        make_run(make_session(alice), status="queued")
    for begun in [claim(), claim(), claim()]:
        assert begun is not None
        let_go(begun, alice)
    bobs = make_run(make_session(bob), status="queued")
    Run.objects.update(not_before=None)  # the time has come

    claim()
    second = claim()

    assert second is not None
    assert second.run_id == bobs.pk


def test_owners_take_turns(
    alice: User, bob: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    for _ in range(3):
        make_run(make_session(alice), status="queued")
    bobs = make_run(make_session(bob), status="queued")

    claim()
    second = claim()

    assert second is not None
    assert second.run_id == bobs.pk


def test_the_oldest_of_an_owner_is_next(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    now = timezone.now()
    make_run(make_session(alice), status="queued", queued_at=now)
    older = make_run(make_session(alice), status="queued", queued_at=now - timedelta(hours=1))

    claimed = claim()

    assert claimed is not None
    assert claimed.run_id == older.pk


def test_a_recovery_says_so_before_it_starts(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    run = make_run(make_session(alice), status="queued", attempt=1, interruption="worker_died")

    claim()

    events = Event.objects.filter(run_id=run.pk).order_by("seq")
    assert [(e.event_type, e.data["attempt"]) for e in events] == [
        ("run_recovered", 2),
        ("run_started", 2),
    ]
