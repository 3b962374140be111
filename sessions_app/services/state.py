"""What one run leaves to the next in its session, and where the live one is: saved by version."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db.models import F

from sessions_app.errors import StateChanged
from sessions_app.event_types import EventData, PhaseChanged, StepStarted, storable
from sessions_app.models import SessionState

MAX_PHASE = 120
_SAVED = frozenset({"context_variables", "plan_data", "current_phase", "current_step"})


def save_state(session_id: uuid.UUID, *, version: int, **changes: Any) -> int:
    """Save what changed since `version` was read; the version it has now.

    Raises StateChanged when somebody else saved meanwhile: read again, then decide again.
    """
    if unknown := changes.keys() - _SAVED:
        raise TypeError(f"no part of a session's state: {', '.join(sorted(unknown))}")
    saved = SessionState.objects.filter(session_id=session_id, version=version).update(
        version=version + 1, **storable(changes)
    )
    if not saved:
        raise StateChanged
    return version + 1


def note_progress(session_id: uuid.UUID, events: Sequence[EventData]) -> None:
    """Phase and step as these events say, in the transaction that appends them."""
    changes: dict[str, Any] = {}
    for event in events:
        if isinstance(event, PhaseChanged):
            changes["current_phase"] = event.phase[:MAX_PHASE]
        elif isinstance(event, StepStarted):
            changes["current_step"] = event.index
    if changes:
        SessionState.objects.filter(session_id=session_id).update(
            version=F("version") + 1, **changes
        )
