"""Writing the log: the one place that gives out sequence numbers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from sessions_app.event_types import EVENT_TYPES, EventData
from sessions_app.hints import send_hint_on_commit
from sessions_app.models import Event, Session
from sessions_app.services.state import note_progress

# Work does not move a session to the top of the list; status, talk, decisions and the plan do.
_MOVES_UPDATED_AT = frozenset(EVENT_TYPES) - {
    "agent_delta",
    "code_execution",
    "cost_update",
    "error",
    "files_updated",
    "output",
    "phase_changed",
    "session_expired",
    "tool_call",
}


def append_events(
    session_id: uuid.UUID,
    events: Sequence[EventData],
    *,
    run_id: uuid.UUID | None = None,
    now: datetime | None = None,
) -> int:
    """Write events at the end of the session's log; call it last in the effect's transaction.

    The UPDATE takes the session's row, so sequence numbers are dense and in commit order.
    Returns the log's last sequence number.
    """
    now = now or timezone.now()
    with transaction.atomic():
        note_progress(session_id, events)
        changes: dict[str, Any] = {"last_seq": F("last_seq") + len(events)}
        if any(event.event_type in _MOVES_UPDATED_AT for event in events):
            changes["updated_at"] = now
        Session.objects.filter(pk=session_id).update(**changes)
        last = Session.objects.values_list("last_seq", flat=True).get(pk=session_id)
        Event.objects.bulk_create(
            Event(
                session_id=session_id,
                seq=seq,
                run_id=run_id,
                step=event.step,
                event_type=event.event_type,
                data=event.stored(),
                created_at=now,
            )
            for seq, event in enumerate(events, last - len(events) + 1)
        )
        send_hint_on_commit(session_id)
    return last
