"""The steps of a run's plan, kept as its log tells of them, in the log's own transaction."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django.utils import timezone

from execution_app.models import Step
from execution_app.statuses import STEP_ENDED, STEP_EVENTS, RunStatus, StepStatus
from sessions_app.event_types import EventData, StepFailed

MAX_ERROR = 2_000


def follow_steps(run_id: uuid.UUID, events: Iterable[EventData]) -> None:
    """The caller holds the run's lock."""
    for event in events:
        if event.event_type in STEP_EVENTS:
            _follow(run_id, STEP_EVENTS[event.event_type], event.stored())


def _follow(run_id: uuid.UUID, status: StepStatus, told: dict[str, Any]) -> None:
    now = timezone.now()
    step = Step.objects.filter(run_id=run_id, index=told["index"]).first()
    step = step or Step(run_id=run_id, index=told["index"])
    step.status = status
    step.title = told["title"]
    step.agent = told.get("agent", step.agent)[:200]
    step.summary = told.get("summary", "")
    step.error = told.get("error", "")
    step.finished_at = now if status in STEP_ENDED else None
    if status == StepStatus.RUNNING:
        step.started_at = step.started_at or now
        step.attempts += 1
    step.save()


def leave_steps(run_id: uuid.UUID) -> None:
    """No process works on the run's steps any more: those that it was in wait to go on."""
    Step.objects.filter(run_id=run_id, status=StepStatus.RUNNING).update(status=StepStatus.PENDING)


def end_steps(run_id: uuid.UUID, ended: RunStatus, *, error: str = "") -> list[EventData]:
    """The run ended before the steps it was in: what the log is to say of them."""
    reason = error[:MAX_ERROR] or f"The run was {ended}."
    begun = Step.objects.filter(run_id=run_id, attempts__gt=0).order_by("index")
    events: list[EventData] = [
        StepFailed(index=step.index, title=step.title, error=reason).in_step(str(step.index))
        for step in begun.exclude(status__in=STEP_ENDED)
    ]
    follow_steps(run_id, events)
    return events
