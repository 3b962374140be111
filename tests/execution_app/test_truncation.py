"""No event over 32 KB: what is cut from it lies in a file beside it."""

from __future__ import annotations

import json

import pytest

from execution_app.services.files import blob_path
from execution_app.truncation import HEAD_CHARACTERS, bounded
from sessions_app.event_types import (
    MAX_EVENT_BYTES,
    AgentMessage,
    EventData,
    FilesUpdated,
    ToolCall,
    encoded_size,
)

LONG = "é" * 40_000


def test_what_fits_is_left_alone() -> None:
    event = AgentMessage(agent="a", content="short").in_step("2")

    assert bounded(event, folder="runs/1") == (event, [])


def test_a_long_text_leaves_its_head_and_its_step() -> None:
    event, files = bounded(AgentMessage(agent="a", content=LONG).in_step("2"), folder="runs/1")

    (file,) = files
    assert event.stored()["content"] == LONG[:HEAD_CHARACTERS]
    assert event.truncated == {"content": {"size": 80_000, "artifact": file.path}}
    assert event.step == "2"
    assert blob_path(file.sha256).read_text() == LONG


def test_of_long_arguments_each_leaves_its_head() -> None:
    arguments = {"code": LONG, "n": 7}
    event, files = bounded(ToolCall(tool_name="t", arguments=arguments, result=""), folder="r")

    assert event.stored()["arguments"] == {"code": LONG[:HEAD_CHARACTERS], "n": 7}
    assert json.loads(blob_path(files[0].sha256).read_text()) == arguments


@pytest.mark.parametrize(
    "arguments", [{str(n): n for n in range(20_000)}, {"nested": {"code": LONG}}]
)
def test_arguments_without_a_head_are_left_out(arguments: dict[str, object]) -> None:
    event, files = bounded(ToolCall(tool_name="t", arguments=arguments, result=""), folder="r")

    assert event.stored()["arguments"] == {}
    assert json.loads(blob_path(files[0].sha256).read_text()) == arguments


@pytest.mark.parametrize(
    "event",
    [
        ToolCall(tool_name=LONG, arguments={"a": LONG}, result=LONG),
        FilesUpdated(files=[{"path": LONG}]),
    ],
)
def test_whatever_it_holds_it_fits(event: EventData) -> None:
    cut, _ = bounded(event.in_step("1"), folder="runs/1")

    assert encoded_size(cut.stored()) <= MAX_EVENT_BYTES
    assert cut.step == "1"
