"""What becomes of a run whose engine or worker is gone, and of its session: decisions only."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from execution_app.models import Run
from execution_app.statuses import RunStatus
from sessions_app.event_types import EventData, RunCancelled, RunFailed, RunPaused
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
    if crashes <= settings.CRASH_LIMIT:
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


def failed(failure: RunFailed, **columns: Any) -> Next:
    errors = {
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
