"""Where a run is, and the ways between: data, checked at import."""

from __future__ import annotations

from django.db import models


class RunStatus(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING_APPROVAL = "waiting_approval"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(models.TextChoices):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


S = RunStatus
EDGES: dict[RunStatus, frozenset[RunStatus]] = {
    S.QUEUED: frozenset({S.RUNNING, S.PAUSED, S.CANCELLED, S.FAILED}),
    S.RUNNING: frozenset(
        {S.QUEUED, S.WAITING_APPROVAL, S.PAUSED, S.COMPLETED, S.FAILED, S.CANCELLED}
    ),
    S.WAITING_APPROVAL: frozenset({S.QUEUED, S.PAUSED, S.FAILED, S.CANCELLED}),
    S.PAUSED: frozenset({S.QUEUED, S.CANCELLED}),
    S.COMPLETED: frozenset(),
    S.FAILED: frozenset({S.QUEUED}),
    S.CANCELLED: frozenset({S.QUEUED}),
}
LIVE = frozenset({S.QUEUED, S.RUNNING, S.WAITING_APPROVAL, S.PAUSED})
# At most one run of a session is in one of these: its work directory has one user at a time.
OCCUPYING = frozenset({S.RUNNING, S.WAITING_APPROVAL, S.PAUSED})
FINAL = frozenset(RunStatus) - LIVE

if set(EDGES) != set(RunStatus) or any(status in edges for status, edges in EDGES.items()):
    raise AssertionError("every run status needs its edges, and none to itself")

# A step is where its run's log last said that it is; the log may say anything after anything.
STEP_EVENTS: dict[str, StepStatus] = {
    "step_started": StepStatus.RUNNING,
    "step_completed": StepStatus.COMPLETED,
    "step_failed": StepStatus.FAILED,
    "step_skipped": StepStatus.SKIPPED,
}
STEP_ENDED = frozenset({StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED})

if set(STEP_EVENTS.values()) | {StepStatus.PENDING} != set(StepStatus):
    raise AssertionError("every status of a step is told by an event, or is the first")
