"""Repairs: every one fences first (attempt + 1 in the same UPDATE) and leaves an event."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from execution_app import control
from execution_app.models import Run
from execution_app.services.claims import write_release
from execution_app.services.outcomes import Next, after_crash, what_was_asked
from execution_app.statuses import RunStatus
from sessions_app.event_types import SessionExpired
from sessions_app.models import Session
from sessions_app.services import append_events
from sessions_app.statuses import SessionStatus, sources

EXPIRED_AT_ONCE = 20  # the reaper must not stall


def reap_runs() -> int:
    """Leases that ran out: their runs go back to the queue. Many hosts may do this at once."""
    count = 0
    for run_id in list(Run.objects.expired().values_list("pk", flat=True)):
        count += _take_back(
            run_id, Run.objects.expired(), lambda run: after_crash(run, reason="lease_expired")
        )
    return count


def release_dead_supervisor(pid: int) -> int:
    """This process of this host is known to be gone: do not wait for its leases to run out."""
    held = Run.objects.filter(status=RunStatus.RUNNING, lease_owner=control.owner_name(pid))
    run_ids = list(held.values_list("pk", flat=True))
    return sum(
        _take_back(run_id, held, lambda run: after_crash(run, reason="worker_died"))
        for run_id in run_ids
    )


def release_own_leftovers(pid: int) -> int:
    """A supervisor about to claim holds nothing: what its name still holds was claimed in a
    transaction whose confirmation was lost, and never begun. No crash."""
    held = Run.objects.filter(status=RunStatus.RUNNING, lease_owner=control.owner_name(pid))
    again = Next(RunStatus.QUEUED, [], {"interruption": "claim_unconfirmed"})
    run_ids = list(held.values_list("pk", flat=True))
    return sum(
        _take_back(run_id, held, lambda run: what_was_asked(run) or again) for run_id in run_ids
    )


def _take_back(run_id: uuid.UUID, candidates: QuerySet[Run], decide: Callable[[Run], Next]) -> bool:
    with transaction.atomic():
        run = candidates.filter(pk=run_id).select_for_update(skip_locked=True, of=("self",)).first()
        if run is None:  # renewed, or another host was first
            return False
        write_release(run, decide(run), attempt=run.attempt + 1)
    return True


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
