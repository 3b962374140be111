"""Sessions: made, moved, deleted."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from sessions_app import event_types
from sessions_app.models import Session, SessionState
from sessions_app.modes import checked_config
from sessions_app.services.log import append_events
from sessions_app.statuses import SessionStatus, sources


def create_session(
    *,
    owner: User,
    mode: str,
    name: str = "",
    config: Mapping[str, Any] | None = None,
    session_id: uuid.UUID | None = None,
) -> Session:
    """A new, empty session. Raises ConfigInvalid naming what does not fit the mode. Its id is
    given by who has put files into its folder already."""
    checked = checked_config(mode, config)
    with transaction.atomic():
        session = Session(id=session_id or uuid.uuid4(), owner=owner, mode=mode, config=checked)
        session.name = name.strip()[:200] or f"{mode}_{session.id.hex[:8]}"
        session.save(force_insert=True)
        SessionState.objects.create(session=session)
        append_events(session.pk, [event_types.SessionCreated(mode=mode, name=session.name)])
    session.refresh_from_db()
    return session


def move_session(session_id: uuid.UUID, *, to: SessionStatus) -> bool:
    """Compare-and-set of the status; False when it is there already or no edge leads there."""
    return bool(
        Session.objects.filter(pk=session_id, status__in=sources(to)).update(
            status=to, updated_at=timezone.now()
        )
    )


def mark_deleted(session: Session, *, by: User) -> bool:
    """Out of everybody's sight from now on; what is live must have been stopped before."""
    now = timezone.now()
    with transaction.atomic():
        deleted = Session.objects.filter(pk=session.pk, deleted_at__isnull=True).update(
            deleted_at=now
        )
        if deleted:
            repaired = event_types.SessionRepaired(
                by=by.get_username(), action="delete", reason="asked by a person"
            )
            append_events(session.pk, [repaired])
    return bool(deleted)
