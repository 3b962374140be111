"""`python -m cmbagent --json` speaks as the server's log does (docs/events.md)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent.terminal.lines import LineNumbers
from execution_app.console import Console, Stream
from sessions_app.event_types import EVENT_TYPES
from tests.cmbagent.command_line import cmbagent, ended, events, started, types, waited_for
from tests.cmbagent.supervision import fenced
from tests.endpoint import Endpoint, task_of

OWN = "terminal_"


@pytest.fixture(scope="module")
def served() -> Iterator[Endpoint]:
    with Endpoint.running() as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(served: Endpoint) -> Iterator[Endpoint]:
    yield served
    served.forget()


def checked(stdout: str, run_id: str | None = None) -> list[dict[str, Any]]:
    """The events, each as the server would have it."""
    seen = events(stdout)
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert len({event["run_id"] for event in seen}) == 1
    for event in seen:
        assert event.keys() == set(ENVELOPE)
        if not event["event_type"].startswith(OWN):
            stated = EVENT_TYPES[event["event_type"]].model_validate(event["data"])
            assert stated.stored() == event["data"], "no default is left to the reader"
    return seen


ENVELOPE = ("seq", "event_type", "timestamp", "session_id", "run_id", "step", "data")


def test_no_event_of_the_server_has_a_name_of_the_terminals_own() -> None:
    assert not [name for name in EVENT_TYPES if name.startswith(OWN)]


def test_as_json_each_event_is_a_line(folder: Path) -> None:
    done = cmbagent(folder, fenced("print(1)"), "--work-dir", "w", "--json")
    assert done.returncode == 0
    seen = types(done.stdout)
    assert seen[0] == "run_started"
    assert seen[-1] == "run_completed"
    assert {"agent_message", "code_execution", "tool_call", "output", "files_updated"} <= {*seen}
    assert seen.index("output") < seen.index("code_execution")  # what was printed comes before
    assert events(done.stdout)[-1]["data"]["cost_usd"] == 0
    assert not done.stderr


def test_a_task_with_a_model_is_told_as_in_the_log(folder: Path, endpoint: Endpoint) -> None:
    endpoint.misbehave("rate_limited", number=2, times=1)
    words = [task_of(11, parts=2, plot=True), "--work-dir", "w", "--wait", "--json"]
    seen = checked(cmbagent(folder, *words, **endpoint.environment).stdout)
    kinds = [event["event_type"] for event in seen]
    at = kinds.index("run_postponed")
    assert seen[at]["data"]["attempt"] == 1
    assert kinds[at + 1 : at + 3] == ["terminal_journal", "run_started"], "nothing was interrupted"
    assert kinds[-2:] == ["terminal_result", "run_completed"]
    assert {"cost_update", "tool_call", "agent_delta"} <= {*kinds}


def test_after_a_kill_it_says_so_and_after_an_end_it_does_not(folder: Path) -> None:
    task = fenced(
        "import os, time\nif not os.path.exists('b'):\n    open('b', 'w')\n    time.sleep(60)"
    )
    process = started(folder, task, "--work-dir", "w", "--json")
    waited_for((folder / "w/files/b").exists)
    checked(ended(process, signal.SIGKILL)[1])
    after_kill = checked(cmbagent(folder, "--work-dir", "w", "--json").stdout)
    beginning = [event["event_type"] for event in after_kill[:3]]
    assert beginning == ["terminal_journal", "run_recovered", "run_started"]
    assert after_kill[1]["data"] == {"attempt": 2, "reason": "started_again"}
    after_end = types(cmbagent(folder, "--work-dir", "w", "--json").stdout)
    assert after_end == ["terminal_journal", "run_started", "terminal_result", "run_completed"]


def test_deltas_come_before_the_message_that_replaces_them(
    folder: Path, endpoint: Endpoint
) -> None:
    done = cmbagent(folder, task_of(9), "--work-dir", "w", "--json", **endpoint.environment)
    seen = events(done.stdout)
    deltas = [e["data"]["content"] for e in seen if e["event_type"] == "agent_delta"]
    messages = [e["data"]["content"] for e in seen if e["event_type"] == "agent_message"]
    assert "".join(deltas) == "".join(messages)
    again = cmbagent(folder, task_of(9), "--work-dir", "w", "--json", **endpoint.environment)
    assert not {"agent_delta", "agent_message"} & {*types(again.stdout)}


@pytest.mark.parametrize("words", [[], ["--approve-code"]])
def test_what_does_not_end_well_is_told_as_in_the_log(folder: Path, words: list[str]) -> None:
    ended_badly = cmbagent(folder, fenced("1 / 0"), "--work-dir", "w", "--json", *words)
    last = checked(ended_badly.stdout)[-1]
    assert last["event_type"] == ("terminal_question" if words else "run_failed")


def test_a_stop_is_told_as_in_the_log(folder: Path) -> None:
    task = fenced("import time\nopen('b', 'w')\ntime.sleep(60)")
    process = started(folder, task, "--work-dir", "w", "--json")
    waited_for((folder / "w/files/b").exists)
    assert checked(ended(process, signal.SIGTERM)[1])[-1]["event_type"] == "run_cancelled"


def test_lines_have_the_numbers_that_the_server_gives_them() -> None:
    chunks: list[tuple[Stream, str]] = [
        ("stdout", "a\nb"),
        ("stderr", "one\ntwo\n"),
        ("stdout", "b\nc\nd"),
        ("stdout", "d"),
        ("stderr", "three"),
        ("stdout", "\n"),
        ("stderr", "\n\nfour\n"),
        ("stdout", "e\n"),
    ]
    ours, theirs = LineNumbers(), Console(next_line=1)
    for stream, text in chunks:
        theirs.feed(stream, text.encode(), now=0.0)
        expected = [event.stored() for event in theirs.take(now=0.0, everything=True)]
        assert ours.numbered(stream, text) == expected
