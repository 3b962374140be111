"""Repairs: every one fences first (attempt + 1 in the same UPDATE) and leaves an event."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from execution_app import control
from execution_app.bells import ring_bell
from execution_app.models import Run
from execution_app.services.claims import settle_session
from execution_app.statuses import FINAL, RunStatus
from sessions_app.event_types import EventData, RunCancelled, RunFailed, RunPaused, SessionExpired
from sessions_app.models import Session
from sessions_app.services import append_events
from sessions_app.statuses import SessionStatus, sources

EXPIRED_AT_ONCE = 500


def reap_runs() -> int:
    """Leases that ran out: their runs go back to the queue. Many hosts may do this at once."""
    count = 0
    for run_id in list(Run.objects.expired().values_list("pk", flat=True)):
        count += _take_back(run_id, Run.objects.expired(), reason="lease_expired")
    return count


def release_dead_supervisor(pid: int) -> int:
    """This process of this host is known to be gone: do not wait for its leases to run out."""
    held = Run.objects.filter(status=RunStatus.RUNNING, lease_owner=control.owner_name(pid))
    run_ids = list(held.values_list("pk", flat=True))
    return sum(_take_back(run_id, held, reason="worker_died") for run_id in run_ids)


def _take_back(run_id: uuid.UUID, candidates: Any, *, reason: str) -> bool:
    with transaction.atomic():
        run = candidates.filter(pk=run_id).select_for_update(skip_locked=True, of=("self",)).first()
        if run is None:  # renewed, or another host was first
            return False
        to, events, fields = after_crash(run, reason=reason)
        if to in FINAL:
            fields["finished_at"] = timezone.now()
        repaired = Run.objects.filter(
            pk=run.pk, status=RunStatus.RUNNING, attempt=run.attempt
        ).update(
            status=to, attempt=run.attempt + 1, lease_owner="", lease_expires_at=None, **fields
        )
        if repaired != 1:
            return False
        settle_session(run.session_id, to)
        append_events(run.session_id, events, run_id=run.pk)
        ring_bell()
    return True


def after_crash(run: Run, *, reason: str) -> tuple[RunStatus, list[EventData], dict[str, Any]]:
    """Where a run goes whose engine or worker died, with events and columns."""
    if run.cancel_requested_at:
        return RunStatus.CANCELLED, [RunCancelled(by=run.requested_by)], {}
    crashes = run.crashes + 1
    if run.pause_requested_at:
        return RunStatus.PAUSED, [RunPaused(by=run.requested_by)], {"pause_requested_at": None}
    if crashes <= settings.CRASH_LIMIT:
        return RunStatus.QUEUED, [], {"crashes": crashes, "interruption": reason}
    failure = RunFailed(
        error_type="crash_loop",
        message=f"The run's processes died {crashes} times without an outcome ({reason}).",
        suggestion="Look at the last lines of its console: memory is the usual cause. "
        "Retry starts it again.",
        retryable=True,
    )
    return RunStatus.FAILED, [failure], {"crashes": crashes, **error_columns(failure)}


def error_columns(failure: RunFailed) -> dict[str, Any]:
    return {
        "error_type": failure.error_type[:60],
        "error_message": failure.message,
        "error_suggestion": failure.suggestion,
        "error_retryable": failure.retryable,
    }


def expire_sessions(*, now: datetime) -> int:
    """Sessions that nobody touched for SESSION_TTL seconds and in which nothing is live.

    A new task moves updated_at in its own transaction: whoever commits first, the other sees it.
    """
    if settings.SESSION_TTL is None:
        return 0
    live = Run.objects.live().filter(session_id=OuterRef("pk"))
    stale = Session.objects.filter(
        ~Exists(live),
        updated_at__lt=now - timedelta(seconds=settings.SESSION_TTL),
        status__in=sources(SessionStatus.EXPIRED),
        deleted_at__isnull=True,
    )
    session_ids = list(stale.values_list("pk", flat=True)[:EXPIRED_AT_ONCE])
    return sum(_expire(stale, session_id) for session_id in session_ids)


def _expire(stale: QuerySet[Session], session_id: uuid.UUID) -> bool:
    with transaction.atomic():
        expired = stale.filter(pk=session_id).update(status=SessionStatus.EXPIRED)
        if expired:
            append_events(session_id, [SessionExpired()])
    return bool(expired)


def waiting_for_a_worker() -> int:
    """How many runs could be claimed now."""
    return Run.objects.claimable().count()
