"""What the end of an engine means for its run and its session."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from execution_app.endings import Ending, settle
from execution_app.models import Artifact, Run, Usage
from execution_app.services import Claim, artifact_file, claim_run, start_run
from sessions_app.models import Event, Session
from tests.conftest import MakeSession

pytestmark = pytest.mark.django_db
DONE = {"t": "outcome", "kind": "completed", "result": {"x": 1}, "summary": "done"}
ERROR = {"error_type": "code_failed", "message": "no", "suggestion": "do", "retryable": True}
FAILED = {"t": "outcome", "kind": "failed", "error": ERROR}


@pytest.fixture
def claim(alice: User, make_session: MakeSession) -> Claim:
    start_run(session=make_session(alice), task="x", by=alice)
    claimed = claim_run(owner="w", sandbox_level=1)
    assert claimed is not None
    return claimed


def ended(claim: Claim, *, stop: str = "", outcome: Any = None) -> tuple[str, str, str]:
    """The run's status, its session's, and the last event."""
    settle(claim, Ending(stop=stop, by="alice", processes=2, outcome=outcome, exit_status=0))
    last = Event.objects.filter(run_id=claim.run_id).order_by("-seq")[0]
    run = Run.objects.get(pk=claim.run_id)
    return run.status, Session.objects.get(pk=claim.session_id).status, last.event_type


def test_completed(claim: Claim) -> None:
    assert ended(claim, outcome=DONE) == ("completed", "completed", "run_completed")
    assert Run.objects.get(pk=claim.run_id).result == {"x": 1}


def test_failed_can_be_taken_up_again(claim: Claim) -> None:
    assert ended(claim, outcome=FAILED) == ("failed", "suspended", "run_failed")
    run = Run.objects.get(pk=claim.run_id)
    assert (run.error_type, run.error_suggestion) == ("code_failed", "do")


def test_cancelled_says_by_whom(claim: Claim) -> None:
    assert ended(claim, stop="cancel") == ("cancelled", "suspended", "run_cancelled")
    said = Event.objects.get(event_type="run_cancelled").data
    assert said == {"by": "alice", "processes_ended": 2}


def test_paused_leaves_the_session_active(claim: Claim) -> None:
    assert ended(claim, stop="pause") == ("paused", "active", "run_paused")


def test_drained_is_no_crash(claim: Claim) -> None:
    assert ended(claim, stop="drain") == ("queued", "active", "run_started")
    run = Run.objects.get(pk=claim.run_id)
    assert (run.crashes, run.interruption) == (0, "worker_drained")


def test_an_outcome_wins_over_a_stop_that_came_late(claim: Claim) -> None:
    assert ended(claim, stop="cancel", outcome=DONE)[0] == "completed"


def test_without_an_outcome_it_is_a_crash(claim: Claim) -> None:
    assert ended(claim) == ("queued", "active", "run_started")
    assert Run.objects.get(pk=claim.run_id).crashes == 1


def test_a_result_of_fifty_megabytes_is_kept_as_a_file(claim: Claim) -> None:
    outcome = DONE | {"result": {"x": "y" * 50_000_000}}

    assert ended(claim, outcome=outcome)[0] == "completed"

    run = Run.objects.get(pk=claim.run_id)
    assert run.result is not None
    kept = run.result["truncated"]["result"]
    artifact = Artifact.objects.get(run=run, path=kept["artifact"])
    assert artifact.size == kept["size"] == 50_000_000 + len('{"x":""}\n')
    assert artifact_file(artifact).stat().st_size == artifact.size


def test_time_is_counted_from_the_attempt_that_ended(claim: Claim) -> None:
    ending = Ending("", "", 0, DONE, 0, seconds=1.5)  # type: ignore[arg-type]  # a literal
    settle(claim, ending)

    assert Event.objects.get(event_type="run_completed").data["execution_time_s"] == 1.5


POSTPONED = {"t": "outcome", "kind": "postponed", "error": ERROR, "retry_after_s": 40}


def test_postponed_it_waits_as_long_as_it_was_told(claim: Claim) -> None:
    assert ended(claim, outcome=POSTPONED) == ("queued", "active", "run_postponed")
    run = Run.objects.get(pk=claim.run_id)
    assert run.not_before is not None
    assert 30 < (run.not_before - timezone.now()).total_seconds() <= 40
    assert (run.crashes, run.interruption) == (0, "")


@pytest.mark.parametrize("nonsense", ["soon", -5, float("inf"), True, None])
def test_a_time_that_is_none_is_guessed(claim: Claim, nonsense: Any) -> None:
    ended(claim, outcome=POSTPONED | {"retry_after_s": nonsense})

    run = Run.objects.get(pk=claim.run_id)
    assert run.not_before is not None
    assert (run.not_before - timezone.now()).total_seconds() <= 2


@pytest.mark.parametrize(("stop", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_person_wins_over_a_postponement(claim: Claim, stop: str, status: str) -> None:
    assert ended(claim, stop=stop, outcome=POSTPONED)[0] == status


def test_a_drain_does_not(claim: Claim) -> None:
    assert ended(claim, stop="drain", outcome=POSTPONED)[2] == "run_postponed"


def test_a_halted_engine_is_no_crash(claim: Claim) -> None:
    halted = {"t": "outcome", "kind": "interrupted", "reason": "halted"}

    assert ended(claim, stop="drain", outcome=halted)[0] == "queued"
    assert Run.objects.get(pk=claim.run_id).crashes == 0


def test_a_mismatch_says_from_where_to_retry(claim: Claim) -> None:
    mismatch = FAILED | {"error": ERROR | {"key": "agent:engineer#0/model#3"}}

    ended(claim, outcome=mismatch)

    assert Run.objects.get(pk=claim.run_id).retry_from == "agent:engineer#0/model#3"


@pytest.mark.parametrize("error", [None, "no", ["no"], {}])
def test_an_error_without_a_form_is_an_error_too(claim: Claim, error: Any) -> None:
    assert ended(claim, outcome=FAILED | {"error": error})[0] == "failed"


@pytest.mark.parametrize(("cost", "told"), [(Decimal("0.25"), 0.25), (None, None)])
def test_the_cost_is_that_of_its_calls(claim: Claim, cost: Decimal | None, told: Any) -> None:
    counts = {"input_tokens": 1, "output_tokens": 1, "cached_tokens": 0}
    for price in (Decimal("0.5"), cost):
        Usage.objects.create(run_id=claim.run_id, cost_usd=price, **counts)

    ended(claim, outcome=DONE)

    expected = None if told is None else 0.5 + told
    assert Event.objects.get(event_type="run_completed").data["cost_usd"] == expected
