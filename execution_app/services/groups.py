"""Storing what the code of many runs printed in one transaction.

Fifty supervisors that commit apart wait for one another: on SQLite for the one write lock, on
PostgreSQL for processors. Here a few statements store the batches of all of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import F

from execution_app.models import Run
from execution_app.services.claims import Claim, lease_end
from execution_app.statuses import RunStatus
from sessions_app.event_types import EventData
from sessions_app.services import LINES_ONLY, Lines, append_lines


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of one claim that holds nothing but lines of the log."""

    owner: str
    attempt: int
    number: int  # of the last batch that its supervisor knows is stored
    lines: Lines

    @classmethod
    def of(cls, claim: Claim, events: Sequence[object]) -> Batch | None:
        """None when it holds more: an entry, a step, a status."""
        lines = []
        for event in events:
            if not isinstance(event, EventData) or event.event_type not in LINES_ONLY:
                return None
            lines.append((event.event_type, event.step, event.stored()))
        told = Lines(claim.session_id, claim.run_id, lines)
        return cls(claim.owner, claim.attempt, claim.batch, told)

    @property
    def run_id(self) -> uuid.UUID:
        return self.lines.run_id


def record_group(batches: Sequence[Batch]) -> set[uuid.UUID]:
    """Store them together; the runs whose batch is stored.

    A batch whose run is not held as it says, or is locked by somebody else just now, is left out:
    its supervisor stores it alone and learns why. What the database refuses refuses them all.
    """
    with transaction.atomic():
        stored = _fence(batches)
        if stored:
            append_lines([batch.lines for batch in stored.values()])
    return set(stored)


def _fence(batches: Sequence[Batch]) -> dict[uuid.UUID, Batch]:
    """As `record_batch` does it for one: the row is locked, and the lease renewed."""
    rows = (
        Run.objects.filter(pk__in={batch.run_id for batch in batches}, status=RunStatus.RUNNING)
        .order_by("pk")
        .select_for_update(skip_locked=True)
        .values_list("pk", "session_id", "lease_owner", "attempt", "batch")
    )
    states = {row[0]: row[1:] for row in rows}
    held = {batch.run_id: batch for batch in batches if states.get(batch.run_id) == _claimed(batch)}
    Run.objects.filter(pk__in=held).update(batch=F("batch") + 1, lease_expires_at=lease_end())
    return held


def _claimed(batch: Batch) -> tuple[uuid.UUID, str, int, int]:
    return batch.lines.session_id, batch.owner, batch.attempt, batch.number
