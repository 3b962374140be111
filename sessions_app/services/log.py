"""Writing the log: the one place that gives out sequence numbers."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
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

# What only adds to the log: no progress, no status, nothing at the top of a list moves by it.
LINES_ONLY = frozenset({"agent_delta", "output"})


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


@dataclass(frozen=True, slots=True)
class Lines:
    """Events of one run, of LINES_ONLY: (event_type, step, data as it is stored) each."""

    session_id: uuid.UUID
    run_id: uuid.UUID
    events: Sequence[tuple[str, str | None, dict[str, Any]]]


def append_lines(many: Sequence[Lines]) -> None:
    """As `append_events`, at the end of several logs at once; each session at most once.

    A few statements, however many logs: those that grow by the same number grow together.
    """
    now = timezone.now()
    with transaction.atomic():
        heads = _grow({lines.session_id: len(lines.events) for lines in many})
        Event.objects.bulk_create(
            Event(
                session_id=lines.session_id,
                seq=seq,
                run_id=lines.run_id,
                step=step,
                event_type=event_type,
                data=data,
                created_at=now,
            )
            for lines in many
            for seq, (event_type, step, data) in enumerate(
                lines.events, heads[lines.session_id] - len(lines.events) + 1
            )
        )
        for lines in many:
            send_hint_on_commit(lines.session_id)


def _grow(counts: dict[uuid.UUID, int]) -> dict[uuid.UUID, int]:
    """The last sequence number of each log, now that it is so many events longer."""
    by_count: dict[int, list[uuid.UUID]] = defaultdict(list)
    for session_id, count in counts.items():
        by_count[count].append(session_id)
    for count, session_ids in by_count.items():
        Session.objects.filter(pk__in=session_ids).update(last_seq=F("last_seq") + count)
    return dict(Session.objects.filter(pk__in=counts).values_list("pk", "last_seq"))
