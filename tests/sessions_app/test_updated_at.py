"""What moves a session to the top of the list: status, talk, decisions and the plan; not work."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from sessions_app import event_types
from sessions_app.event_types import EventData
from sessions_app.models import Session
from sessions_app.services import append_events
from tests.conftest import MakeSession

COST: dict[str, Any] = {
    "model": "m",
    "input_tokens": 1,
    "output_tokens": 1,
    "cost_usd": None,
    "total_cost_usd": None,
}


def moves(session: Session, event: EventData) -> bool:
    later = timezone.now() + timedelta(hours=1)
    append_events(session.pk, [event], now=later)
    return Session.objects.get(pk=session.pk).updated_at == later


@pytest.mark.parametrize(
    "event",
    [
        event_types.Output(stream="stdout", line=1, text="x"),
        event_types.AgentDelta(agent="a", content="x"),
        event_types.ToolCall(tool_name="t", arguments={}, result=""),
        event_types.CostUpdate(**COST),
        event_types.PhaseChanged(phase="x"),
        event_types.FilesUpdated(files=[]),
        event_types.Error(error_type="x", message="x"),
    ],
    ids=lambda event: event.event_type,
)
def test_work_leaves_it_where_it_is(
    alice: User, make_session: MakeSession, event: EventData
) -> None:
    assert not moves(make_session(alice), event)


@pytest.mark.parametrize(
    "event",
    [
        event_types.UserMessage(content="x"),
        event_types.AgentMessage(agent="a", content="x"),
        event_types.StepStarted(index=1, title="x"),
        event_types.StepSkipped(index=1, title="x"),
        event_types.RunPaused(),
        event_types.RunPostponed(error_type="x", message="x", until="x", attempt=1),
    ],
    ids=lambda event: event.event_type,
)
def test_everything_else_moves_it(alice: User, make_session: MakeSession, event: EventData) -> None:
    assert moves(make_session(alice), event)
