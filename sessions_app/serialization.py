"""How one event looks to a client: the same over REST and over the socket (protocol.md 3)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sessions_app.models import Event


def timestamp_json(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, as a browser's Date.toISOString writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_json(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "event_type": event.event_type,
        "timestamp": timestamp_json(event.created_at),
        "session_id": str(event.session_id),
        "run_id": str(event.run_id) if event.run_id else None,
        "step": event.step,
        "data": event.data,
    }
