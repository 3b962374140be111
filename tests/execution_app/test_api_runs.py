"""Runs over REST: start, look, cancel, pause, resume, retry."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from execution_app.models import Run
from sessions_app.models import Session
from tests.api_client import answer, refusal
from tests.conftest import As, MakeRun, MakeSession

TASK = {"task": "```python\nprint(42)\n```"}


def _runs(session: Session) -> str:
    return f"/api/sessions/{session.pk}/runs"


def test_a_run_is_queued(api: As, alice: User, make_session: MakeSession) -> None:
    session = make_session(alice)
    body = answer(api(alice).post(_runs(session), TASK), 202)
    run = Run.objects.get(pk=body["run_id"])
    assert body == {
        "run_id": str(run.pk),
        "session_id": str(session.pk),
        "status": "queued",
    }
    assert (run.task, run.status) == (TASK["task"], "queued")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "task"),
        ({"task": ""}, "task"),
        ({"task": " \n"}, "task"),
        ({"task": "a\0b"}, "task"),
        ({"task": "\udfff"}, "task"),
        ({"task": 7}, "task"),
        ({"task": "x" * 200_001}, "task"),
        (TASK | {"on_busy": "wait"}, "on_busy"),
        (TASK | {"config": {"nonsense": 1}}, "config.nonsense"),
        (TASK | {"config": {"parameters": {"H0": "inf"}}}, "config.parameters.H0"),
        (TASK | {"config": []}, "config"),
        (TASK | {"mode": "one-shot"}, "mode"),
    ],
)
def test_what_is_not_valid_is_named(
    api: As, alice: User, make_session: MakeSession, body: dict[str, Any], field: str
) -> None:
    session = make_session(alice)
    refused = refusal(api(alice).post(_runs(session), body), 422, "invalid")
    assert field in refused["fields"]
    assert not Run.objects.exists()


def test_one_live_run_at_a_time(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    live = make_run(session, status="paused")
    client = api(alice)
    refusal(client.post(_runs(session), TASK), 409, "session_busy")
    started = answer(client.post(_runs(session), TASK | {"on_busy": "interrupt"}), 202)
    assert answer(client.get(f"/api/runs/{live.pk}"))["status"] == "cancelled"
    assert answer(client.get(f"/api/runs/{started['run_id']}"))["status"] == "queued"


def test_the_runs_of_a_session(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    made = [make_run(session) for _ in range(3)]
    make_run(make_session(alice))
    body = answer(api(alice).get(_runs(session), {"limit": 2, "offset": 1}))
    assert (body["session_id"], body["total_runs"]) == (str(session.pk), 3)
    assert [run["run_id"] for run in body["runs"]] == [str(run.pk) for run in made[1:]]


def test_a_run_shows_all_that_is_known(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    failed = make_run(
        make_session(alice),
        status="failed",
        error_type="crash_loop",
        error_message="It died five times.",
        error_suggestion="Use less memory.",
        sandbox_level=2,
    )
    body = answer(api(alice).get(f"/api/runs/{failed.pk}"))
    contract = {
        "run_id", "session_id", "task", "mode", "status", "attempt", "queued_at", "started_at",
        "finished_at", "error", "sandbox_level", "engine_version", "result", "cost_usd",
        "total_tokens",
    }  # fmt: skip
    assert contract <= set(body)
    assert (body["mode"], body["sandbox_level"], body["cost_usd"]) == ("one-shot", 2, 0.0)
    assert body["error"] == {
        "error_type": "crash_loop",
        "message": "It died five times.",
        "suggestion": "Use less memory.",
        "retryable": False,
    }


def test_a_run_that_did_not_fail_has_no_error(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    run = make_run(make_session(alice), result={"lines": 1})
    body = answer(api(alice).get(f"/api/runs/{run.pk}"))
    assert (body["error"], body["result"]) == (None, {"lines": 1})


@pytest.mark.parametrize(
    ("command", "before", "after", "stopping"),
    [
        ("cancel", "queued", "cancelled", False),
        ("cancel", "running", "running", True),
        ("cancel", "paused", "cancelled", False),
        ("pause", "queued", "paused", False),
        ("pause", "running", "running", False),
        ("resume", "paused", "queued", False),
        ("retry", "failed", "queued", False),
        ("retry", "cancelled", "queued", False),
    ],
)
def test_commands(
    api: As,
    alice: User,
    make_session: MakeSession,
    make_run: MakeRun,
    command: str,
    before: str,
    after: str,
    stopping: bool,
) -> None:
    run = make_run(make_session(alice), status=before)
    body = answer(api(alice).post(f"/api/runs/{run.pk}/{command}"))
    assert body == {"run_id": str(run.pk), "status": after, "stopping": stopping}


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("cancel", "completed"),
        ("pause", "failed"),
        ("resume", "running"),
        ("resume", "completed"),
        ("retry", "completed"),
        ("retry", "queued"),
    ],
)
def test_a_command_at_the_wrong_time(
    api: As,
    alice: User,
    make_session: MakeSession,
    make_run: MakeRun,
    command: str,
    status: str,
) -> None:
    run = make_run(make_session(alice), status=status)
    refusal(api(alice).post(f"/api/runs/{run.pk}/{command}", {}), 409, "wrong_status")


def test_a_retry_while_another_run_is_live(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    failed = make_run(session, status="failed", finished_at=timezone.now())
    make_run(session, status="queued")
    refusal(api(alice).post(f"/api/runs/{failed.pk}/retry"), 409, "session_busy")


def test_a_command_takes_no_fields(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    run = make_run(make_session(alice), status="queued")
    refused = refusal(api(alice).post(f"/api/runs/{run.pk}/cancel", {"force": 1}), 422, "invalid")
    assert list(refused["fields"]) == ["force"]
    assert answer(api(alice).get(f"/api/runs/{run.pk}"))["status"] == "queued"


def test_staff_may_stop_what_is_not_theirs(
    api: As, alice: User, staff: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    run = make_run(make_session(alice), status="queued")
    assert answer(api(staff).post(f"/api/runs/{run.pk}/cancel"))["status"] == "cancelled"
