"""Start, cancel, pause, resume, retry, delete: what they do in each status, and to the session."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import DataError, IntegrityError, connection, transaction

from execution_app.bells import ring_bell
from execution_app.errors import SessionBusy, TaskInvalid, WrongStatus
from execution_app.models import Run
from execution_app.services import (
    cancel_run,
    claim_run,
    delete_session,
    pause_run,
    resume_run,
    retry_run,
    runs,
    start_run,
)
from execution_app.statuses import FINAL, LIVE, RunStatus
from sessions_app.errors import ConfigInvalid
from sessions_app.models import Event, Session
from tests.conftest import MakeRun, MakeSession

pytestmark = pytest.mark.django_db
NOT_RUNNING = sorted(LIVE - {RunStatus.RUNNING})


def last_event(run: Run) -> str:
    event = Event.objects.filter(run_id=run.pk).order_by("-seq").first()
    return event.event_type if event else ""


def session_status(run: Run) -> str:
    return Session.objects.get(pk=run.session_id).status


def test_start_queues_says_so_and_rings(alice: User, make_session: MakeSession) -> None:
    session = make_session(alice)

    run = start_run(session=session, task="compute", by=alice)

    assert (run.status, run.number) == ("queued", 1)
    types = (
        Event.objects.filter(session=session).order_by("seq").values_list("event_type", flat=True)
    )
    assert list(types) == ["session_created", "user_message", "run_queued"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_q_ormq")
        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize(
    ("task", "word"), [("", "empty"), (" \n", "empty"), ("a\0b", "NUL"), ("x" * 200_001, "longer")]
)
def test_a_task_that_is_none(alice: User, make_session: MakeSession, task: str, word: str) -> None:
    with pytest.raises(TaskInvalid, match=word):
        start_run(session=make_session(alice), task=task, by=alice)


def test_config_is_checked_against_the_mode(alice: User, make_session: MakeSession) -> None:
    with pytest.raises(ConfigInvalid, match="colour"):
        start_run(session=make_session(alice), task="x", config={"colour": 1}, by=alice)


@pytest.mark.parametrize("status", sorted(LIVE))
def test_a_busy_session_takes_no_second_run(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    session = make_session(alice)
    make_run(session, status=status)

    with pytest.raises(SessionBusy):
        start_run(session=session, task="x", by=alice)


def test_only_a_run_that_came_first_makes_a_session_busy(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    """Whatever else a database refuses is no 409: waiting would not help."""
    session = make_session(alice)

    with pytest.raises((IntegrityError, DataError)), transaction.atomic():
        runs._insert_run(session, "x", {"not JSON": float("inf")})

    make_run(session, status="queued")
    with pytest.raises(SessionBusy):
        runs._insert_run(session, "x", {})


def test_interrupt_stops_the_live_run_and_queues_the_next(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    running = make_run(session, status="running")

    queued = start_run(session=session, task="x", on_busy="interrupt", by=alice)

    running.refresh_from_db()
    assert running.cancel_requested_at is not None
    assert queued.status == "queued"
    assert claim_run(owner="w", sandbox_level=1) is None, "until the other has ended"


def test_interrupt_of_a_paused_run_leaves_the_way_free(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    paused = make_run(session, status="paused")

    queued = start_run(session=session, task="x", on_busy="interrupt", by=alice)

    paused.refresh_from_db()
    assert paused.status == "cancelled"
    claim = claim_run(owner="w", sandbox_level=1)
    assert claim is not None
    assert claim.run_id == queued.pk
    assert session_status(queued) == "active"


@pytest.mark.parametrize("status", NOT_RUNNING)
def test_cancel_what_is_not_running(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    run = make_run(make_session(alice), status=status)

    cancelled = cancel_run(run, by=alice)

    assert cancelled.status == "cancelled"
    assert cancelled.finished_at is not None
    assert last_event(run) == "run_cancelled"
    assert session_status(run) == "suspended"


def test_cancel_asks_a_running_run(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    run = make_run(make_session(alice), status="running")

    asked = cancel_run(run, by=alice)

    assert (asked.status, asked.is_stopping, asked.requested_by) == ("running", True, "alice")


@pytest.mark.parametrize("status", sorted(FINAL))
def test_what_has_ended_cannot_be_cancelled_or_paused(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    run = make_run(make_session(alice), status=status)

    for ask in (cancel_run, pause_run):
        with pytest.raises(WrongStatus, match=status):
            ask(run, by=alice)


@pytest.mark.parametrize("status", ["queued", "waiting_approval"])
def test_pause_what_is_not_running(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    run = make_run(make_session(alice), status=status)

    assert pause_run(run, by=alice).status == "paused"
    assert last_event(run) == "run_paused"
    assert session_status(run) == "active"


def test_pause_and_resume(alice: User, make_session: MakeSession, make_run: MakeRun) -> None:
    run = make_run(make_session(alice), status="paused", pause_requested_at=None)

    resumed = resume_run(run, by=alice)

    assert resumed.status == "queued"
    assert last_event(run) == "run_resumed"


@pytest.mark.parametrize("status", sorted(set(RunStatus) - {RunStatus.PAUSED}))
def test_only_paused_runs_resume(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    run = make_run(make_session(alice), status=status)

    with pytest.raises(WrongStatus):
        resume_run(run, by=alice)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_retry_begins_anew(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    fields = {"crashes": 6, "error_type": "crash_loop", "error_message": "!"}
    run = make_run(make_session(alice), status=status, **fields)

    retried = retry_run(run, by=alice)

    assert (retried.status, retried.crashes, retried.error_type) == ("queued", 0, "")
    assert retried.finished_at is None
    assert session_status(run) == "active"


def test_retry_of_one_run_while_another_is_live(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    failed = make_run(session, status="failed")
    make_run(session, status="running")

    with pytest.raises(SessionBusy):
        retry_run(failed, by=alice)


@pytest.mark.parametrize("status", sorted(LIVE | {RunStatus.COMPLETED}))
def test_only_failed_and_cancelled_runs_are_retried(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    with pytest.raises(WrongStatus):
        retry_run(make_run(make_session(alice), status=status), by=alice)


def test_delete_stops_and_hides(alice: User, make_session: MakeSession, make_run: MakeRun) -> None:
    session = make_session(alice)
    queued = make_run(session, status="queued")

    assert delete_session(session, by=alice)
    assert not delete_session(session, by=alice), "once is enough"

    queued.refresh_from_db()
    assert queued.status == "cancelled"
    assert not Session.objects.visible_to(alice).exists()


def test_a_bell_is_part_of_the_transaction(alice: User) -> None:
    ring_bell()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_q_ormq")
        assert cursor.fetchone() == (1,)
