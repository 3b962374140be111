"""A person's request and a supervisor's end meet: what was asked is not forgotten."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from execution_app import control
from execution_app.endings import Ending, settle
from execution_app.errors import SessionBusy, SessionDeleted
from execution_app.models import Run
from execution_app.services import (
    Claim,
    cancel_run,
    claim_run,
    delete_session,
    pause_run,
    release_own_leftovers,
    release_run,
    retry_run,
    runs,
    start_run,
)
from execution_app.services.retention import is_still_stopping
from execution_app.statuses import RunStatus
from sessions_app.models import Event, Session
from tests.conftest import MakeRun, MakeSession

pytestmark = pytest.mark.django_db


@pytest.fixture
def claim(alice: User, make_session: MakeSession) -> Claim:
    start_run(session=make_session(alice), task="x", by=alice)
    claimed = claim_run(owner="w", sandbox_level=1)
    assert claimed is not None
    return claimed


def run_of(claim: Claim) -> Run:
    return Run.objects.select_related("session").get(pk=claim.run_id)


def end(claim: Claim, stop: str) -> str:
    settle(claim, Ending(stop=stop, by="alice", processes=1, outcome=None, exit_status=0))
    return run_of(claim).status


def fail(claim: Claim) -> Run:
    release_run(claim, RunStatus.FAILED)
    return run_of(claim)


@pytest.mark.parametrize("stop", ["pause", "drain", ""])
def test_cancelled_while_it_is_being_stopped(claim: Claim, alice: User, stop: str) -> None:
    cancel_run(run_of(claim), by=alice)

    assert end(claim, stop) == "cancelled"
    assert Event.objects.filter(event_type="run_cancelled", data__by="alice").count() == 1


@pytest.mark.parametrize("stop", ["drain", ""])
def test_paused_while_it_is_being_stopped(claim: Claim, alice: User, stop: str) -> None:
    pause_run(run_of(claim), by=alice)

    assert end(claim, stop) == "paused"
    assert run_of(claim).pause_requested_at is None


@pytest.mark.parametrize("stop", ["pause", "drain", ""])
def test_deleted_while_it_is_being_stopped(claim: Claim, alice: User, stop: str) -> None:
    session = run_of(claim).session
    delete_session(session, by=alice)

    assert end(claim, stop) == "cancelled"
    assert not is_still_stopping(session)


@pytest.mark.parametrize("stop", ["pause", "drain", ""])
def test_interrupted_while_it_is_being_stopped(claim: Claim, alice: User, stop: str) -> None:
    session = run_of(claim).session
    following = start_run(session=session, task="next", on_busy="interrupt", by=alice)

    assert end(claim, stop) == "cancelled"
    claimed = claim_run(owner="w", sandbox_level=1)
    assert claimed is not None
    assert claimed.run_id == following.pk


def test_a_run_that_completes_although_interrupted_leaves_the_session_active(
    claim: Claim, alice: User
) -> None:
    session = run_of(claim).session
    start_run(session=session, task="next", on_busy="interrupt", by=alice)
    done = {"t": "outcome", "kind": "completed", "result": {}, "summary": ""}

    settle(claim, Ending("", "", 0, done, 0))  # type: ignore[arg-type]  # a test's literal

    assert Session.objects.get(pk=session.pk).status == "active"


def test_no_run_begins_in_a_deleted_session(alice: User, make_session: MakeSession) -> None:
    session = make_session(alice)
    delete_session(session, by=alice)

    with pytest.raises(SessionDeleted):
        start_run(session=session, task="x", by=alice)
    assert not Run.objects.exists()


def test_what_slipped_into_a_deleted_session_is_ended_by_the_clean_up(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    delete_session(session, by=alice)
    run = make_run(session, status="queued")

    assert not is_still_stopping(session)
    run.refresh_from_db()
    assert run.status == "cancelled"


def test_a_claim_whose_confirmation_was_lost_is_no_crash(
    alice: User, make_session: MakeSession
) -> None:
    run = start_run(session=make_session(alice), task="x", by=alice)
    claim_run(owner=control.owner_name(4711), sandbox_level=1)

    assert release_own_leftovers(4711) == 1

    run.refresh_from_db()
    assert (run.status, run.crashes, run.attempt) == ("queued", 0, 2)


def test_a_task_that_meets_a_retry_is_refused(
    claim: Claim, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was live when the task looked; before it is queued, the failed run runs again."""
    failed = fail(claim)
    insert = runs._insert_run

    def retried_meanwhile(*arguments: object) -> Run:
        retry_run(failed, by=alice)
        assert claim_run(owner="w", sandbox_level=1)
        return insert(*arguments)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(runs, "_insert_run", retried_meanwhile)
    with pytest.raises(SessionBusy):
        start_run(session=failed.session, task="another", by=alice)
    assert not Run.objects.filter(task="another").exists()


def test_a_retry_that_meets_a_task_is_refused(
    claim: Claim, alice: User, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = fail(claim)
    requeue = runs._requeue

    def begun_meanwhile(*arguments: object) -> None:
        make_run(failed.session, status="running")
        requeue(*arguments)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(runs, "_requeue", begun_meanwhile)
    with pytest.raises(SessionBusy):
        retry_run(failed, by=alice)
