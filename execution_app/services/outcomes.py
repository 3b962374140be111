"""What becomes of a run whose engine or worker is gone, and of its session: decisions only."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now
from django.utils import timezone

from cmbagent.perseverance import (
    gives_up_after_crash,
    gives_up_after_postponement,
    seconds_to_wait,
)
from cmbagent.wire import Failure
from execution_app.models import Run
from execution_app.services.journal import escaped
from execution_app.statuses import RunStatus
from sessions_app.event_types import EventData, RunCancelled, RunFailed, RunPaused, RunPostponed
from sessions_app.services import move_session
from sessions_app.statuses import SessionStatus


@dataclass(frozen=True)
class Next:
    """Where a run goes, what its log says of it, and what its row keeps."""

    to: RunStatus
    events: list[EventData] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)


def what_was_asked(run: Run) -> Next | None:
    """A person's request that nobody has carried out yet; cancel wins over pause."""
    if run.cancel_requested_at:
        return Next(RunStatus.CANCELLED, [RunCancelled(by=run.requested_by)])
    if run.pause_requested_at:
        paused = RunPaused(by=run.requested_by)
        return Next(RunStatus.PAUSED, [paused], {"pause_requested_at": None})
    return None


def after_crash(run: Run, *, reason: str) -> Next:
    """Back to the queue, up to the limit."""
    if asked := what_was_asked(run):
        return asked
    crashes = run.crashes + 1
    if not gives_up_after_crash(crashes):
        return Next(RunStatus.QUEUED, [], {"crashes": crashes, "interruption": reason})
    return failed(
        RunFailed(
            error_type="crash_loop",
            message=f"The run was interrupted {crashes} times without an outcome ({reason}).",
            suggestion="Look at the last lines of its console and at the server's log; memory is "
            "the usual cause. Retry starts it again.",
            retryable=True,
        ),
        crashes=crashes,
    )


def after_postponement(run: Run, failure: Failure, retry_after_s: float | None) -> Next:
    """Back to the queue for a while, up to the limit; no crash."""
    if asked := what_was_asked(run):
        return asked
    told = run_failed(failure)
    postponements = run.postponements + 1
    if gives_up_after_postponement(postponements):
        return failed(told, postponements=postponements)
    wait_s = seconds_to_wait(postponements, retry_after_s)
    until = timezone.now() + timedelta(seconds=wait_s)  # for people
    event = RunPostponed(
        error_type=told.error_type,
        message=told.message,
        until=until.isoformat(timespec="milliseconds"),
        attempt=run.attempt,
    )
    columns = {"not_before": seconds_from_now(wait_s), "postponements": postponements}
    return Next(RunStatus.QUEUED, [event], columns)


def seconds_from_now(seconds: float) -> Any:
    """An expression, by the database's clock: what it writes is compared with that clock, and a
    host's may be wrong."""
    return Now() + timedelta(seconds=seconds)


def run_failed(failure: Failure) -> RunFailed:
    """What the log says of a failure that an engine told."""
    return RunFailed(
        error_type=str(failure.get("error_type", "unknown"))[:60],
        message=str(failure.get("message", ""))[:4_000],
        suggestion=str(failure.get("suggestion", ""))[:2_000],
        retryable=bool(failure.get("retryable", False)),
    )


def failed(failure: RunFailed, *, retry_from: str = "", **columns: Any) -> Next:
    """`retry_from`: the key of the journal entry from which a retry must begin anew."""
    errors = {
        "retry_from": escaped(retry_from),
        "error_type": failure.error_type[:60],
        "error_message": failure.message,
        "error_suggestion": failure.suggestion,
        "error_retryable": failure.retryable,
    }
    return Next(RunStatus.FAILED, [failure], columns | errors)


def settle_session(session_id: uuid.UUID, outcome: RunStatus) -> None:
    """What the end of a run means for its session (architecture.md, "Words"); nothing while
    another run of it is live."""
    settled = {
        RunStatus.COMPLETED: SessionStatus.COMPLETED,
        RunStatus.FAILED: SessionStatus.SUSPENDED,
        RunStatus.CANCELLED: SessionStatus.SUSPENDED,
    }
    if outcome in settled and not Run.objects.live().filter(session_id=session_id).exists():
        move_session(session_id, to=settled[outcome])
