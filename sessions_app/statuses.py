"""Where a session is, and the ways between: data, checked at import."""

from __future__ import annotations

from django.db import models


class SessionStatus(models.TextChoices):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    EXPIRED = "expired"


EDGES: dict[SessionStatus, frozenset[SessionStatus]] = {
    SessionStatus.ACTIVE: frozenset(
        {SessionStatus.SUSPENDED, SessionStatus.COMPLETED, SessionStatus.EXPIRED}
    ),
    SessionStatus.SUSPENDED: frozenset(
        {SessionStatus.ACTIVE, SessionStatus.COMPLETED, SessionStatus.EXPIRED}
    ),
    SessionStatus.COMPLETED: frozenset({SessionStatus.ACTIVE, SessionStatus.EXPIRED}),
    SessionStatus.EXPIRED: frozenset({SessionStatus.ACTIVE}),
}

if set(EDGES) != set(SessionStatus):
    raise AssertionError("every session status needs its edges")


def sources(target: SessionStatus) -> list[SessionStatus]:
    """The statuses from which `target` may be reached."""
    return [status for status, targets in EDGES.items() if target in targets]
