"""Events as people read them, without a database or a browser."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.template.loader import render_to_string

from sessions_app.event_types import EVENT_TYPES
from sessions_app.models import Event
from sessions_app.rendering.entries import (
    DRAFT_TYPES,
    ENDS_OF_TALK,
    TALK_TYPES,
    Draft,
    Entry,
    ago,
    clock,
    make_entries,
    money,
    read_drafts,
)
from tests.sessions_app.hostile_texts import Tags


def event(event_type: str, **data: Any) -> Event:
    stored = EVENT_TYPES[event_type].model_validate(data).stored()
    return Event(seq=1, event_type=event_type, data=stored, created_at=datetime.now(UTC))


def entry(event_type: str, **data: Any) -> Entry:
    (made,) = make_entries([event(event_type, **data)])
    return made


def test_every_type_that_is_talk_is_one_of_the_vocabulary() -> None:
    assert set(EVENT_TYPES) >= TALK_TYPES | DRAFT_TYPES | ENDS_OF_TALK


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["program", "browser"])
def test_a_message_is_split_into_prose_and_code(newline: str) -> None:
    said = "Draw this:\n\n```python\nprint(1)\n```\nThank you.\n"
    made = entry("user_message", content=said.replace("\n", newline))
    assert [(part.is_code, part.text) for part in made.parts] == [
        (False, "Draw this:"),
        (True, "print(1)"),
        (False, "Thank you."),
    ]


def test_a_fence_that_is_never_closed_is_code_to_the_end() -> None:
    made = entry("user_message", content="```python\nprint(1)\n\nprint(2)")
    assert [(part.is_code, part.text) for part in made.parts] == [(True, "print(1)\n\nprint(2)")]


def test_a_failure_says_what_to_do() -> None:
    made = entry("run_failed", error_type="code_failed", message="It broke.", suggestion="Mend it.")
    assert (made.tone, made.title) == ("bad", "Failed: code_failed")
    assert made.text == "It broke.\nMend it."


@pytest.mark.parametrize(
    ("data", "tone", "detail"),
    [
        ({"exit_code": 0, "ended_by": "exit"}, "ok", "2.5 s · exit code 0"),
        ({"exit_code": 3, "ended_by": "exit"}, "bad", "2.5 s · exit code 3"),
        ({"exit_code": None, "ended_by": "time_limit"}, "bad", "2.5 s · ended by time limit"),
    ],
)
def test_executed_code_tells_how_it_ended(data: dict[str, Any], tone: str, detail: str) -> None:
    made = entry("code_execution", language="python", path="runs/1/1.py", duration_s=2.5, **data)
    assert (made.tone, made.detail) == (tone, detail)


def test_executed_code_tells_the_level_of_its_run() -> None:
    run_id = uuid.uuid4()
    ran = event(
        "code_execution", language="python", path="b.py", exit_code=0, duration_s=1, ended_by="exit"
    )
    ran.run_id = run_id
    (made,) = make_entries([ran], {run_id: 2})
    assert made.detail == "1.0 s · exit code 0 · sandbox level 2"


def test_a_tool_call_folds_its_code_and_its_result_away() -> None:
    made = entry(
        "tool_call", tool_name="run_python", arguments={"code": "a = 1\nb = 2"}, result='{"a": 1}'
    )
    assert (made.kind, made.title, made.detail) == ("tool", "run_python", "2 lines of Python")
    assert [(fold.label, fold.text) for fold in made.folds] == [
        ("Code", "a = 1\nb = 2"),
        ("Result", '{\n  "a": 1\n}'),
    ]


def test_arguments_that_are_no_code_are_shown_as_json() -> None:
    arguments = {"recipe": "distances", "parameters": {"z": 1.5}}
    made = entry("tool_call", tool_name="run_recipe", arguments=arguments, result="not JSON {")
    assert [fold.label for fold in made.folds] == ["Arguments", "Result"]
    assert '"z": 1.5' in made.folds[0].text
    assert made.folds[1].text == "not JSON {"


def test_a_postponed_run_says_until_when_and_why() -> None:
    made = entry(
        "run_postponed",
        error_type="model_busy",
        message="The model is busy.",
        until="2026-11-22T13:34:56+01:00",
        attempt=2,
    )
    assert made.title == "Waiting until 12:34 UTC"
    assert "Because: The model is busy." in made.text


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        (None, "unknown"),
        (0, "$0.00"),
        (0.00001, "below $0.0001"),
        (0.0123, "$0.0123"),
        (4.2, "$4.20"),
    ],
)
def test_a_cost_that_nobody_knows_is_not_zero(usd: float | None, said: str) -> None:
    assert money(usd) == said


def test_a_run_without_a_model_says_that_no_ai_is_used() -> None:
    made = entry("run_started", attempt=1, sandbox_level=1, model="no-model")
    assert made.detail == "sandbox level 1 · no AI is used"


def test_steps_are_told_by_number_and_title() -> None:
    started = entry("step_started", index=2, title="Fit", agent="engineer")
    failed = entry("step_failed", index=2, title="Fit", error="No data.")
    assert (started.title, started.detail) == ("Step 2: Fit", "engineer")
    assert (failed.title, failed.tone, failed.text) == ("Step 2 failed: Fit", "bad", "No data.")


# -- what is being said -----------------------------------------------------------------------
def delta(agent: str, content: str) -> Event:
    return event("agent_delta", agent=agent, content=content)


def drafts(*events: Event) -> list[Draft]:
    return read_drafts(reversed(events))


def test_parts_of_a_message_are_a_draft_until_it_is_there() -> None:
    parts = [delta("engineer", "I sh"), delta("engineer", "all")]
    assert drafts(*parts) == [Draft("engineer", "I shall")]
    whole = event("agent_message", agent="engineer", content="I shall")
    assert drafts(*parts, whole) == []
    assert drafts(*parts, whole, delta("engineer", "Next")) == [Draft("engineer", "Next")]


def test_each_agent_has_a_draft_of_its_own() -> None:
    both = [delta("engineer", "a"), delta("researcher", "b"), delta("engineer", "c")]
    assert {draft.agent: draft.text for draft in drafts(*both)} == {
        "engineer": "ac",
        "researcher": "b",
    }


@pytest.mark.parametrize("ending", sorted(ENDS_OF_TALK))
def test_what_nobody_will_end_is_no_draft(ending: str) -> None:
    end = Event(seq=2, event_type=ending, data={})
    assert drafts(delta("engineer", "half a sen"), end) == []
    assert drafts(delta("engineer", "half a sen"), end, delta("engineer", "anew")) == [
        Draft("engineer", "anew")
    ]


# -- strangers --------------------------------------------------------------------------------
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202etxt.exe"


@pytest.mark.parametrize(
    "said",
    [
        entry("agent_message", agent="engineer", content=HOSTILE),
        entry("agent_message", agent="engineer", content=f"```python\n{HOSTILE}\n```"),
        entry("tool_call", tool_name=HOSTILE, arguments={"code": HOSTILE}, result=HOSTILE),
        entry("tool_call", tool_name="t", arguments={HOSTILE: HOSTILE}, result=""),
        entry("step_completed", index=1, title=HOSTILE, summary=HOSTILE),
        entry("phase_changed", phase=HOSTILE),
        entry("run_failed", error_type="x", message=HOSTILE, suggestion=HOSTILE),
    ],
)
def test_text_of_a_model_is_text(said: Entry) -> None:
    html = render_to_string("sessions/_entry.html", {"entry": said})
    assert "<script" not in html
    assert "<img" not in html
    assert "<script>" in Tags(html).text
    assert "\u202e" not in html
    assert "[U+202E]" in Tags(html).text


def test_line_breaks_of_a_model_stay() -> None:
    made = entry("agent_message", agent="engineer", content="one\ntwo\n\n\nthree")
    assert [part.text for part in made.parts] == ["one\ntwo\n\n\nthree"]


def test_times_are_said_in_words() -> None:
    assert [clock(s) for s in (-3, 59.9, 75, 3675)] == ["0:00", "0:59", "1:15", "1:01:15"]
    assert [ago(s) for s in (3, 61, 7300, 200_000)] == [
        "just now",
        "1 min ago",
        "2 h ago",
        "2 d ago",
    ]
