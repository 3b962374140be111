"""What the plan rail shows: the steps of the last run, or what it executed, and what is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from execution_app.models import Run, Step, Usage
from execution_app.statuses import STEP_ENDED, RunStatus, StepStatus
from sessions_app.console import unmasked
from sessions_app.console.rows import did_well, duration
from sessions_app.models import Event
from sessions_app.rendering.entries import money, speaker

_SHOWN = 200  # steps, or executions
_STATES = {
    StepStatus.PENDING: "todo",
    StepStatus.RUNNING: "now",
    StepStatus.COMPLETED: "done",
    StepStatus.FAILED: "failed",
    StepStatus.SKIPPED: "skipped",
}
_WORDS = {"todo": "not started", "now": "running"}  # of those that have not ended


@dataclass(frozen=True)
class ShownStep:
    """A line of the rail. `state` is a class of app.css; `seq` of the entry that tells of it."""

    index: int
    title: str
    state: str
    note: str
    seq: int | None = None

    @property
    def word(self) -> str:
        return _WORDS.get(self.state, self.state)


def plan_context(run: Run | None) -> dict[str, Any]:
    if run is None:
        return {"steps": [], "is_planned": False}
    planned = list(Step.objects.filter(run=run).order_by("index")[:_SHOWN])
    steps = _steps(run, planned) if planned else _executions(run)
    return {
        "steps": steps,
        "is_planned": bool(planned),
        "steps_ended": sum(step.state not in _WORDS for step in steps),
        "left": time_left(run, planned),
        "recoveries": _events(run, "run_recovered").count(),
        **_tokens(run),
    }


def _events(run: Run, event_type: str) -> Any:
    return Event.objects.filter(run_id=run.pk, event_type=event_type)


def _tokens(run: Run) -> dict[str, str]:
    sums = Usage.objects.filter(run=run).aggregate(
        sent=Sum("input_tokens"), got=Sum("output_tokens")
    )
    return {"tokens_in": f"{sums['sent'] or 0:,}", "tokens_out": f"{sums['got'] or 0:,}"}


# -- steps ------------------------------------------------------------------------------------
def _steps(run: Run, planned: Sequence[Step]) -> list[ShownStep]:
    costs = {
        row["step"]: money(row["usd"])
        for row in Usage.objects.filter(run=run).values("step").annotate(usd=Sum("cost_usd"))
    }
    begun = _events(run, "step_started").order_by("seq").values_list("data__index", "seq")
    seqs = dict(begun[:_SHOWN])
    now = timezone.now()
    return [
        ShownStep(
            step.index,
            step.title,
            _STATES[StepStatus(step.status)],
            " · ".join(filter(None, _notes(step, costs.get(str(step.index), ""), now))),
            seqs.get(step.index),
        )
        for step in planned
    ]


def _notes(step: Step, cost: str, now: datetime) -> Iterable[str]:
    yield speaker(step.agent) if step.agent else ""
    if step.started_at and step.status in STEP_ENDED:
        yield duration(_seconds(step, now))
    yield cost
    if step.attempts > 1:
        yield f"begun {step.attempts} times"


def _seconds(step: Step, now: datetime) -> float:
    begun = step.started_at or now
    return max(0.0, ((step.finished_at or now) - begun).total_seconds())


def time_left(run: Run, planned: Sequence[Step]) -> str:
    """From how long its steps took so far; empty while nobody can know."""
    took = [_seconds(s, timezone.now()) for s in planned if s.status == StepStatus.COMPLETED]
    waiting = sum(step.status == StepStatus.PENDING for step in planned)
    if run.status != RunStatus.RUNNING or not took or not waiting:
        return ""
    mean = sum(took) / len(took)
    begun = [_seconds(s, timezone.now()) for s in planned if s.status == StepStatus.RUNNING]
    seconds = mean * waiting + sum(max(0.0, mean - so_far) for so_far in begun)
    return f"about {max(1, round(seconds / 60))} min" if seconds >= 45 else "below a minute"


# -- executions -------------------------------------------------------------------------------
def _executions(run: Run) -> list[ShownStep]:
    """A run without a plan: what it executed, and what it is doing."""
    newest = list(_events(run, "code_execution").order_by("-seq")[:_SHOWN])
    ended = [_execution(index, event) for index, event in enumerate(reversed(newest), start=1)]
    under_way = _under_way(run, since=newest[0].seq if newest else 0, index=len(ended) + 1)
    return [*ended, *under_way]


def _under_way(run: Run, *, since: int, index: int) -> Iterable[ShownStep]:
    """What was begun after the last that ended."""
    if run.status == RunStatus.RUNNING:
        begun = _events(run, "phase_changed").filter(seq__gt=since).order_by("-seq").first()
        if begun is not None:
            yield ShownStep(index, unmasked(begun.data["phase"]), "now", "", begun.seq)


def _execution(index: int, event: Event) -> ShownStep:
    fine = did_well(event.data)
    how = "" if fine else "failed"
    note = " · ".join(filter(None, [duration(event.data["duration_s"]), how]))
    path = str(event.data["path"]).rpartition("/")[2]
    return ShownStep(index, path, "done" if fine else "failed", note, event.seq)
