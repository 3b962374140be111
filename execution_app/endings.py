"""What the end of an engine means for its run: one place, one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from cmbagent import wire
from execution_app.models import Artifact, Run
from execution_app.services import Claim, FoundFile, after_crash, error_columns, release_run
from execution_app.services.files import record_artifacts, store_bytes
from execution_app.statuses import RunStatus
from sessions_app.event_types import (
    MAX_EVENT_BYTES,
    EventData,
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


def settle(claim: Claim, ending: Ending) -> None:
    """Write what the ending means. Raises LeaseLost. An outcome wins over a stop that came late."""
    outcome: dict[str, Any] = dict(ending.outcome or {})
    match outcome.get("kind"), ending.stop:
        case "completed", _:
            _complete(claim, outcome)
        case "failed", _:
            _fail(claim, _failure(outcome))
        case _, "cancel":
            cancelled = RunCancelled(by=ending.by, processes_ended=ending.processes)
            release_run(claim, RunStatus.CANCELLED, [cancelled])
        case _, "pause":
            paused = RunPaused(by=ending.by)
            release_run(claim, RunStatus.PAUSED, [paused], pause_requested_at=None)
        case _, "drain":
            release_run(claim, RunStatus.QUEUED, interruption="worker_drained")
        case _:
            _lose(claim, ending)


def _complete(claim: Claim, outcome: dict[str, Any]) -> None:
    run = Run.objects.get(pk=claim.run_id)
    files = Artifact.objects.filter(run=run).order_by("path").values_list("path", flat=True)
    result, stored = _bounded_result(claim, storable(outcome.get("result") or {}))
    record_artifacts(claim.session_id, claim.run_id, stored)
    started = run.started_at or run.queued_at
    completed = RunCompleted(
        summary=str(outcome.get("summary", ""))[:2_000],
        files=_named(list(files[:MAX_FILES_NAMED])),
        execution_time_s=round((timezone.now() - started).total_seconds(), 3),
        cost_usd=0.0,
    )
    release_run(claim, RunStatus.COMPLETED, [completed], result=result)


def _named(paths: list[str]) -> list[str]:
    """As many names as fit an event."""
    while encoded_size(paths) > MAX_EVENT_BYTES // 2:
        paths = paths[: len(paths) // 2]
    return paths


def _bounded_result(claim: Claim, result: dict[str, Any]) -> tuple[dict[str, Any], list[FoundFile]]:
    """A result over 32 KB is kept as a file; the row says where."""
    size = encoded_size(result)
    if size <= MAX_EVENT_BYTES:
        return result, []
    content = wire.encode(result)
    file = store_bytes(f"runs/{claim.number}/values/result.json", content)
    return {"truncated": {"result": {"size": file.size, "artifact": file.path}}}, [file]


def _failure(outcome: dict[str, Any]) -> RunFailed:
    error: Any = outcome.get("error") or {}
    return RunFailed(
        error_type=str(error.get("error_type", "unknown"))[:60],
        message=str(error.get("message", ""))[:4_000],
        suggestion=str(error.get("suggestion", ""))[:2_000],
        retryable=bool(error.get("retryable", False)),
    )


def _fail(claim: Claim, failure: RunFailed) -> None:
    release_run(claim, RunStatus.FAILED, [failure], **error_columns(failure))


def _lose(claim: Claim, ending: Ending) -> None:
    """The engine died, or its code was killed from outside: a crash. The run goes back to the
    queue, or fails."""
    run = Run.objects.get(pk=claim.run_id)
    told = ending.outcome.get("reason") if ending.outcome else None
    reason = str(told)[:200] if told else f"engine_died ({_how(ending.exit_status)})"
    to, events, fields = after_crash(run, reason=reason)
    typed: list[EventData] = events
    release_run(claim, to, typed, **fields)


def _how(status: int | None) -> str:
    if status is None:
        return "no exit status"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
