"""What people ask of runs: start, cancel, pause, resume, retry."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from execution_app import control
from execution_app.bells import ring_bell
from execution_app.errors import SessionBusy, TaskInvalid, WrongStatus
from execution_app.model_choice import models_for
from execution_app.models import Run
from execution_app.services.files import refuse_deleted
from execution_app.services.journal import forget_from
from execution_app.services.steps import end_steps
from execution_app.statuses import EDGES, RunStatus
from sessions_app.event_types import (
    EventData,
    RunCancelled,
    RunPaused,
    RunQueued,
    RunResumed,
    UserMessage,
    storable,
)
from sessions_app.models import Session
from sessions_app.modes import checked_config
from sessions_app.services import append_events, mark_deleted, move_session
from sessions_app.statuses import SessionStatus

OnBusy = Literal["reject", "interrupt"]
MAX_TASK_CHARACTERS = 200_000
_NOT_UNIQUE = {"23505", sqlite3.SQLITE_CONSTRAINT_UNIQUE}  # as PostgreSQL and SQLite say it
_SHOWN_CHARACTERS = 8_000  # of a task in the log; the run keeps all of it


def start_run(
    *,
    session: Session,
    task: str,
    config: Mapping[str, Any] | None = None,
    on_busy: OnBusy = "reject",
    by: User,
) -> Run:
    """Queue a run of `task`. Raises TaskInvalid, ConfigInvalid, SessionBusy."""
    task = checked_task(task)
    merged = checked_config(session.mode, {**session.config, **(config or {})})
    models_for(merged)  # one that is not connected is refused here, not when the run is claimed
    with transaction.atomic():
        live = list(Run.objects.live().filter(session=session).select_for_update(of=("self",)))
        if live and on_busy == "reject":
            raise SessionBusy
        for run in live:
            _cancel_locked(run, by=by.get_username())
        run = _insert_run(session, task, merged)
        _tell_queued(run, UserMessage(content=_shown(task)), RunQueued(number=run.number))
    return run


def checked_task(task: str) -> str:
    """The task as it is stored. Raises TaskInvalid."""
    if not task.strip():
        raise TaskInvalid("task", "The task is empty: say what shall be done.")
    if len(task) > MAX_TASK_CHARACTERS:
        raise TaskInvalid("task", f"The task is longer than {MAX_TASK_CHARACTERS:,} characters.")
    if storable(task) != task:
        raise TaskInvalid("task", "The task contains characters that are no text (NUL, surrogate).")
    return task


def _shown(task: str) -> str:
    if len(task) <= _SHOWN_CHARACTERS:
        return task
    return f"{task[:_SHOWN_CHARACTERS]}\n… ({len(task) - _SHOWN_CHARACTERS:,} characters more)"


def _insert_run(session: Session, task: str, config: dict[str, Any]) -> Run:
    last = Run.objects.filter(session=session).aggregate(last=Max("number"))["last"] or 0
    with _one_at_a_time():
        return Run.objects.create(session=session, number=last + 1, task=task, config=config)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Raises SessionBusy when somebody else's run came first: a constraint of uniqueness says so.
    Whatever else the database refuses is a fault, and stays one."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        codes = {getattr(error.__cause__, name, None) for name in ("sqlstate", "sqlite_errorcode")}
        if codes.isdisjoint(_NOT_UNIQUE):
            raise
        raise SessionBusy from error


def cancel_run(run: Run, *, by: User) -> Run:
    """Stop it for good. A running one is asked; its supervisor stops the tree and says so."""
    with transaction.atomic():
        locked = _lock(run.pk)
        if not locked.is_live:
            raise WrongStatus(f"The run has already ended: {locked.status}.")
        _cancel_locked(locked, by=by.get_username())
    return _reread(run.pk)


def _cancel_locked(run: Run, *, by: str) -> None:
    if run.status == RunStatus.RUNNING:
        _request(run, "cancel_requested_at", by)
        return
    _move(run, RunStatus.CANCELLED, finished_at=timezone.now())
    move_session(run.session_id, to=SessionStatus.SUSPENDED)
    ended = end_steps(run.pk, RunStatus.CANCELLED)
    append_events(run.session_id, [*ended, RunCancelled(by=by)], run_id=run.pk)
    ring_bell()  # a queued run of the same session may have waited for this one


def pause_run(run: Run, *, by: User) -> Run:
    """Stop it so that it can go on later; it holds no process while it is paused."""
    with transaction.atomic():
        locked = _lock(run.pk)
        if locked.status == RunStatus.RUNNING:
            _request(locked, "pause_requested_at", by.get_username())
        elif locked.status in {RunStatus.QUEUED, RunStatus.WAITING_APPROVAL}:
            _occupy(locked, RunStatus.PAUSED)
            append_events(locked.session_id, [RunPaused(by=by.get_username())], run_id=locked.pk)
        elif locked.status != RunStatus.PAUSED:
            raise WrongStatus(f"Only a live run can be paused; this one is {locked.status}.")
    return _reread(run.pk)


def resume_run(run: Run, *, by: User) -> Run:
    """A paused run goes back to the queue."""
    with transaction.atomic():
        locked = _lock(run.pk)
        if locked.status == RunStatus.RUNNING and locked.pause_requested_at:
            raise WrongStatus("The run is still being paused. Try again in a moment.")
        if locked.status != RunStatus.PAUSED:
            raise WrongStatus(f"Only a paused run can be resumed; this one is {locked.status}.")
        _requeue(locked, RunResumed(by=by.get_username()))
    return _reread(run.pk)


def retry_run(run: Run, *, by: User) -> Run:
    """A failed or cancelled run is tried again, with a clean count of crashes. What it finished
    stays finished, but for what no longer fits what it would do now."""
    with transaction.atomic():
        locked = _lock(run.pk)
        if locked.status not in {RunStatus.FAILED, RunStatus.CANCELLED}:
            raise WrongStatus(
                f"Only a failed or cancelled run can be retried; this one is {locked.status}."
            )
        if Run.objects.live().filter(session_id=locked.session_id).exists():
            raise SessionBusy
        if locked.retry_from:
            forget_from(locked.pk, locked.retry_from)
        _requeue(locked, RunResumed(by=by.get_username()))
    return _reread(run.pk)


def _requeue(run: Run, *events: EventData) -> None:
    with _one_at_a_time():
        _move(
            run,
            RunStatus.QUEUED,
            queued_at=timezone.now(),
            finished_at=None,
            crashes=0,
            postponements=0,
            not_before=None,
            interruption="",
            pause_requested_at=None,
            cancel_requested_at=None,
            error_type="",
            error_message="",
            error_suggestion="",
            error_retryable=False,
            retry_from="",
            result=None,
        )
    _tell_queued(run, *events)


def _tell_queued(run: Run, *events: EventData) -> None:
    move_session(run.session_id, to=SessionStatus.ACTIVE)
    append_events(run.session_id, events, run_id=run.pk)
    refuse_deleted(run.session_id)
    _refuse_second(run)
    ring_bell()


def _refuse_second(run: Run) -> None:
    """Raises SessionBusy if a run that nobody asked to stop got in while we looked away: the one
    we saw end was retried, or another was begun and claimed. Both could go on, until one of them
    had to return to the queue. Writing the log locked the session's row: who comes second sees
    the first."""
    others = Run.objects.live().filter(session_id=run.session_id).exclude(pk=run.pk)
    if others.filter(cancel_requested_at__isnull=True).exists():
        raise SessionBusy


def _occupy(run: Run, to: RunStatus) -> None:
    with _one_at_a_time():  # another run of the session may occupy it
        _move(run, to)


def delete_session(session: Session, *, by: User) -> bool:
    """Stop what is live in the session and take it out of everybody's sight."""
    with transaction.atomic():
        for run in Run.objects.live().filter(session=session).select_for_update(of=("self",)):
            _cancel_locked(run, by=by.get_username())
        return mark_deleted(session, by=by)


def cancel_leftovers(session: Session) -> None:
    """What slipped into a session while it was deleted is never claimed: it ends here."""
    with transaction.atomic():
        for run in Run.objects.live().filter(session=session).select_for_update(of=("self",)):
            _cancel_locked(run, by="clean-up")


def _lock(run_id: uuid.UUID) -> Run:
    return Run.objects.select_for_update(of=("self",)).get(pk=run_id)


def _reread(run_id: uuid.UUID) -> Run:
    return Run.objects.select_related("session").get(pk=run_id)


def _request(run: Run, field: str, by: str) -> None:
    Run.objects.filter(pk=run.pk, **{f"{field}__isnull": True}).update(
        **{field: timezone.now(), "requested_by": by}
    )
    owner = run.lease_owner
    transaction.on_commit(lambda: control.nudge(owner))


def _move(run: Run, to: RunStatus, **fields: Any) -> None:
    """Compare-and-set of a row that is locked here; demands that it was as we read it."""
    if to not in EDGES[RunStatus(run.status)]:
        raise WrongStatus(f"A run that is {run.status} cannot become {to}.")
    moved = Run.objects.filter(pk=run.pk, status=run.status, attempt=run.attempt).update(
        status=to, **fields
    )
    if moved != 1:
        raise WrongStatus("The run changed at the same moment. Look again.")
