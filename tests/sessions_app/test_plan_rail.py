"""The plan rail: steps with their state, time and cost, what is left, or what was executed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from execution_app.models import Run, Step, Usage
from execution_app.services import start_run
from execution_app.services.steps import follow_steps
from execution_app.statuses import RunStatus
from sessions_app.event_types import (
    CodeExecution,
    EventData,
    PhaseChanged,
    RunRecovered,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
)
from sessions_app.services import append_events, create_session
from sessions_app.views.plan import plan_context, time_left

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> Run:
    alice = User.objects.create_user("alice")
    session = create_session(owner=alice, mode="one-shot", name="planned")
    return start_run(session=session, task="x", by=alice)


def tell(run: Run, *events: EventData) -> None:
    append_events(run.session_id, list(events), run_id=run.pk)
    follow_steps(run.pk, events)


def step(index: int, status: str, seconds: float = 0) -> Step:
    begun = timezone.now() - timedelta(seconds=seconds)
    ended = begun + timedelta(seconds=seconds) if status == "completed" else None
    return Step(index=index, status=status, started_at=begun, finished_at=ended)


def test_each_step_says_how_it_is(run: Run) -> None:
    tell(run, StepStarted(index=1, title="Collect", agent="researcher"))
    tell(run, StepCompleted(index=1, title="Collect"), StepStarted(index=2, title="Scan"))
    tell(run, StepFailed(index=2, title="Scan", error="no"), StepSkipped(index=3, title="Check"))
    tell(run, StepStarted(index=4, title="Write", agent="engineer"))
    shown = plan_context(run)
    assert [(one.title, one.state) for one in shown["steps"]] == [
        ("Collect", "done"),
        ("Scan", "failed"),
        ("Check", "skipped"),
        ("Write", "now"),
    ]
    assert (shown["is_planned"], shown["steps_ended"]) == (True, 3)
    first = shown["steps"][0]
    assert first.note.startswith("researcher · 0.")
    assert run.session.event_set.get(seq=first.seq).event_type == "step_started"


def test_a_step_says_what_it_cost_and_unknown_is_not_zero(run: Run) -> None:
    tell(run, StepStarted(index=1, title="a"), StepStarted(index=2, title="b"))
    said = {"run": run, "agent": "e", "provider": "p", "model": "m", "cached_tokens": 0}
    for at, cost in (("1", "0.25"), ("2", None)):
        Usage.objects.create(
            **said, key=at, step=at, input_tokens=1500, output_tokens=10, cost_usd=cost
        )
    shown = plan_context(run)
    assert [one.note for one in shown["steps"]] == ["$0.2500", "unknown"]
    assert (shown["tokens_in"], shown["tokens_out"]) == ("3,000", "20")


def test_what_is_left_follows_from_what_was_done() -> None:
    running = Run(status=RunStatus.RUNNING)
    done = [step(1, "completed", 300), step(2, "completed", 100)]
    waiting = [step(4, "pending"), step(5, "pending")]
    assert time_left(running, [*done, step(3, "running", 80), *waiting]) == "about 9 min"
    assert time_left(running, done) == ""  # nobody knows of more
    assert time_left(running, waiting) == ""  # nor how long one takes
    assert time_left(Run(status=RunStatus.PAUSED), [*done, *waiting]) == ""
    assert time_left(running, [step(1, "completed", 5), step(2, "pending")]) == "below a minute"


def test_without_a_plan_the_rail_lists_what_was_executed(run: Run) -> None:
    ended = {"language": "python", "duration_s": 72.0, "ended_by": "exit"}
    tell(run, CodeExecution(path="runs/1/a.py", exit_code=0, **ended))
    tell(run, RunRecovered(attempt=2, reason="worker_lost"))
    tell(run, CodeExecution(path="runs/1/b.py", exit_code=1, **ended))
    shown = plan_context(run)
    assert [(one.title, one.state, one.note) for one in shown["steps"]] == [
        ("a.py", "done", "1:12"),
        ("b.py", "failed", "1:12 · failed"),
    ]
    assert (shown["is_planned"], shown["recoveries"]) == (False, 1)


def test_without_a_plan_the_rail_says_what_is_under_way(run: Run) -> None:
    ended = {"language": "python", "duration_s": 2.0, "ended_by": "exit", "exit_code": 0}
    tell(run, PhaseChanged(phase="Running block 1"), CodeExecution(path="a.py", **ended))
    tell(run, PhaseChanged(phase="Running block 2"))
    run.status = RunStatus.RUNNING
    shown = plan_context(run)
    found = [(one.title, one.state) for one in shown["steps"]]
    assert (found, shown["steps_ended"]) == ([("a.py", "done"), ("Running block 2", "now")], 1)
    tell(run, CodeExecution(path="b.py", **ended))
    assert [one.title for one in plan_context(run)["steps"]] == ["a.py", "b.py"]
    tell(run, PhaseChanged(phase="Running block 3"))
    run.status = RunStatus.CANCELLED
    assert len(plan_context(run)["steps"]) == 2


def test_the_rail_is_on_the_page_and_comes_with_its_status(client: Client, run: Run) -> None:
    tell(run, StepStarted(index=1, title="<b>Collect</b>"))
    client.force_login(User.objects.get())
    for name in ("detail", "status"):
        text = client.get(reverse(f"sessions:{name}", args=[run.session_id])).text
        assert "&lt;b&gt;Collect&lt;/b&gt;" in text
        assert '<progress max="1" value="0" aria-label="0 of 1 steps done">' in text
