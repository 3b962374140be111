"""What the end of an engine means for its run: one place, one transaction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cmbagent import wire
from execution_app.models import Artifact
from execution_app.services import (
    Claim,
    FoundFile,
    cost_of_run,
    failed,
    postpone_run,
    release_crashed,
    release_run,
    run_failed,
    store_bytes,
)
from execution_app.statuses import RunStatus
from sessions_app.event_types import (
    MAX_EVENT_BYTES,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunPaused,
    encoded_size,
    storable,
)

MAX_FILES_NAMED = 200


@dataclass(frozen=True)
class Ending:
    """How an engine ended: by our stop, with an outcome, or without one."""

    stop: str  # "", cancel, pause, drain
    by: str
    processes: int
    outcome: wire.Outcome | None
    exit_status: int | None
    seconds: float = 0.0  # of this attempt


def settle(claim: Claim, ending: Ending) -> None:
    """Write what the ending means. Raises LeaseLost. An outcome wins over a stop that came late;
    one that only puts the run off does not win over a person."""
    outcome: dict[str, Any] = dict(ending.outcome or {})
    match outcome.get("kind"), ending.stop:
        case "completed", _:
            _complete(claim, outcome, ending.seconds)
        case "failed", _:
            _fail(claim, outcome)
        case _, "cancel":
            cancelled = RunCancelled(by=ending.by, processes_ended=ending.processes)
            release_run(claim, RunStatus.CANCELLED, [cancelled])
        case _, "pause":
            paused = RunPaused(by=ending.by)
            release_run(claim, RunStatus.PAUSED, [paused], pause_requested_at=None)
        case "postponed", _:
            postpone_run(claim, _error(outcome), _seconds(outcome.get("retry_after_s")))
        case _, "drain":
            release_run(claim, RunStatus.QUEUED, interruption="worker_drained")
        case _:
            _lose(claim, ending)


def _complete(claim: Claim, outcome: dict[str, Any], seconds: float) -> None:
    files = Artifact.objects.filter(run_id=claim.run_id).order_by("path")
    cost = cost_of_run(claim.run_id)
    result, stored = _bounded_result(claim, storable(outcome.get("result") or {}))
    completed = RunCompleted(
        summary=str(outcome.get("summary", ""))[:2_000],
        files=_named(list(files.values_list("path", flat=True)[:MAX_FILES_NAMED])),
        execution_time_s=round(seconds, 3),
        cost_usd=None if cost is None else float(cost),
    )
    release_run(claim, RunStatus.COMPLETED, [completed], stored, result=result)


def _named(paths: list[str]) -> list[str]:
    """As many names as fit an event."""
    while encoded_size(paths) > MAX_EVENT_BYTES // 2:
        paths = paths[: len(paths) // 2]
    return paths


def _bounded_result(claim: Claim, result: dict[str, Any]) -> tuple[dict[str, Any], list[FoundFile]]:
    """A result over 32 KB is kept as a file; the row says where."""
    if encoded_size(result) <= MAX_EVENT_BYTES:
        return result, []
    file = store_bytes(f"runs/{claim.number}/values/result.json", wire.encode(result))
    return {"truncated": {"result": {"size": file.size, "artifact": file.path}}}, [file]


def _fail(claim: Claim, outcome: dict[str, Any]) -> None:
    error = _error(outcome)
    fail_run(claim, run_failed(error), retry_from=str(error.get("key", "")))


def _error(outcome: dict[str, Any]) -> Any:
    error = outcome.get("error")
    return error if isinstance(error, dict) else {}


def _seconds(given: object) -> float | None:
    """As a provider may have said it; None: it said nothing that is a time."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return None
    return float(given) if math.isfinite(given) and given >= 0 else None


def fail_run(claim: Claim, failure: RunFailed, *, retry_from: str = "") -> None:
    """The run ends as failed. Raises LeaseLost. A retry makes the call of this key and all that
    came after it anew."""
    ending = failed(failure, retry_from=retry_from)
    release_run(claim, ending.to, ending.events, **ending.columns)


def _lose(claim: Claim, ending: Ending) -> None:
    """The engine died, or its code was killed from outside: a crash."""
    told = ending.outcome.get("reason") if ending.outcome else None
    release_crashed(claim, reason=str(told or f"engine_died ({_how(ending.exit_status)})"))


def _how(status: int | None) -> str:
    if status is None:
        return "no exit status"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
