"""Steps and costs of a run over REST."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution_app.models import Run, Step, Usage
from execution_app.services import claim_run, cost_of_run, record_batch, tokens_of_run
from sessions_app.event_types import CostUpdate, StepCompleted, StepStarted
from tests.api_client import answer, refusal
from tests.conftest import As, MakeRun, MakeSession
from tests.execution_app.making import finished, usage

COST = CostUpdate(model="m", input_tokens=1, output_tokens=1, cost_usd=None, total_cost_usd=None)


@pytest.fixture
def run(alice: User, make_session: MakeSession, make_run: MakeRun) -> Run:
    return make_run(make_session(alice))


def spend(run: Run, **columns: Any) -> None:
    given = usage(cost_usd=Decimal("0.1")) | {"key": "m#0", "step": None}
    Usage.objects.create(run=run, **{**given, **columns})


def costs(api: As, user: User, run: Run) -> dict[str, Any]:
    return dict(answer(api(user).get(f"/api/runs/{run.pk}/costs")))


# -- steps ------------------------------------------------------------------------------------
def test_the_steps_of_a_run_in_their_order(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    make_run(make_session(alice), status="queued")
    claim = claim_run(owner="w", sandbox_level=1)
    assert claim
    second = StepStarted(index=2, title="Fit", agent="engineer")
    done = StepCompleted(index=1, title="Look", summary="Seen.")
    record_batch(claim, [second, StepStarted(index=1, title="Look"), done])

    body = answer(api(alice).get(f"/api/runs/{claim.run_id}/steps"))

    assert body["run_id"] == str(claim.run_id)
    first, other = body["steps"]
    assert first.pop("started_at") <= first.pop("finished_at")
    assert first == {
        "index": 1,
        "title": "Look",
        "agent": "",
        "status": "completed",
        "attempts": 1,
        "summary": "Seen.",
        "error": "",
    }
    assert (other["index"], other["status"], other["finished_at"]) == (2, "running", None)


# -- costs ------------------------------------------------------------------------------------
def test_a_run_that_called_no_model_cost_nothing(api: As, alice: User, run: Run) -> None:
    assert costs(api, alice, run) == {
        "run_id": str(run.pk),
        "total_cost_usd": 0.0,
        "total_tokens": 0,
        "total_prompt_tokens": 0,
        "total_completion_tokens": 0,
        "total_cached_tokens": 0,
        "record_count": 0,
        "model_breakdown": [],
        "step_breakdown": [],
    }
    assert (cost_of_run(run.pk), tokens_of_run(run.pk)) == (Decimal(0), 0)


def test_costs_are_told_per_model_and_per_step(api: As, alice: User, run: Run) -> None:
    Step.objects.create(run=run, index=2, title="Fit")
    Step.objects.create(run=run, index=10, title="Explain")
    spend(run)
    spend(run, step="10", model="gpt-4o-mini", cost_usd=Decimal("0.02"))
    spend(run, step="2", input_tokens=1000, cost_usd=Decimal("0.3"))

    body = costs(api, alice, run)

    assert body["total_cost_usd"] == pytest.approx(0.42)
    assert (body["total_tokens"], body["total_cached_tokens"], body["record_count"]) == (
        1260,
        30,
        3,
    )
    models = [(part["model"], part["call_count"], part["cost"]) for part in body["model_breakdown"]]
    assert models == [("gpt-4o", 2, pytest.approx(0.4)), ("gpt-4o-mini", 1, pytest.approx(0.02))]
    steps = [(part["step"], part["title"], part["tokens"]) for part in body["step_breakdown"]]
    assert steps == [(None, "", 120), ("2", "Fit", 1020), ("10", "Explain", 120)]


def test_what_is_not_known_is_null_and_not_nothing(api: As, alice: User, run: Run) -> None:
    spend(run)
    spend(run, model="local", cost_usd=None)

    body = costs(api, alice, run)

    assert (body["total_cost_usd"], body["total_tokens"]) == (None, 240)
    known = {part["model"]: part["cost"] for part in body["model_breakdown"]}
    assert known == {"gpt-4o": pytest.approx(0.1), "local": None}
    assert cost_of_run(run.pk) is None
    shown = answer(api(alice).get(f"/api/runs/{run.pk}"))
    assert (shown["cost_usd"], shown["total_tokens"]) == (None, 240)


def test_many_small_costs_add_up(api: As, alice: User, run: Run) -> None:
    for _ in range(1_000):
        spend(run, cost_usd=Decimal("0.000000075"))

    assert costs(api, alice, run)["total_cost_usd"] == pytest.approx(7.5e-05, rel=1e-9)


def test_a_call_belongs_to_the_step_it_was_made_in(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    make_run(make_session(alice), status="queued")
    claim = claim_run(owner="w", sandbox_level=1, name_model=lambda _: "gpt-4o")
    assert claim
    record_batch(claim, [finished("m#0", "x", COST.in_step("3"), usage=usage())])

    assert Usage.objects.values_list("step", flat=True).get() == "3"


# -- the run itself ---------------------------------------------------------------------------
def test_a_run_says_its_model_and_what_it_cost(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    run = make_run(make_session(alice), status="queued")
    assert answer(api(alice).get(f"/api/runs/{run.pk}"))["model"] == ""
    claim_run(owner="w", sandbox_level=1, name_model=lambda _: "gpt-4o")
    spend(run)

    shown = answer(api(alice).get(f"/api/runs/{run.pk}"))

    assert (shown["model"], shown["cost_usd"], shown["total_tokens"]) == ("gpt-4o", 0.1, 120)


def test_a_list_of_runs_asks_once_for_all_costs(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session, client = make_session(alice), api(alice)
    url = f"/api/sessions/{session.pk}/runs"
    spend(make_run(session), cost_usd=Decimal("0.2"))
    with CaptureQueriesContext(
        connection,
    ) as one:
        answer(client.get(url))
    spend(make_run(session), cost_usd=None)
    make_run(session)

    with CaptureQueriesContext(connection) as three:
        runs = answer(client.get(url))["runs"]

    assert [(run["cost_usd"], run["total_tokens"]) for run in runs] == [
        (0.2, 120),
        (None, 120),
        (0.0, 0),
    ]
    assert len(three) <= len(one)


# -- who may see them -------------------------------------------------------------------------
@pytest.mark.parametrize("part", ["", "/steps", "/costs"])
def test_nobody_sees_what_is_not_theirs(
    api: As, bob: User, charlie: User, staff: User, alice: User, run: Run, part: str
) -> None:
    nothing = "00000000-0000-4000-8000-000000000000"
    for stranger in (bob, charlie):
        hidden = refusal(api(stranger).get(f"/api/runs/{run.pk}{part}"), 404, "not_found")
        missing = refusal(api(stranger).get(f"/api/runs/{nothing}{part}"), 404, "not_found")
        assert hidden == missing
    for reader in (alice, staff):
        assert answer(api(reader).get(f"/api/runs/{run.pk}{part}"))["run_id"] == str(run.pk)


@pytest.mark.parametrize("part", ["/steps", "/costs"])
def test_who_is_not_signed_in_sees_nothing(client: Any, run: Run, part: str) -> None:
    assert client.get(f"/api/runs/{run.pk}{part}").status_code == 401
