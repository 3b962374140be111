"""What the API of runs and files reads and writes (protocol.md 2). Unknown fields are refused."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field

from execution_app.models import Artifact, Run, Step
from execution_app.services import Costs, costs_by, costs_of
from execution_app.statuses import RunStatus, StepStatus
from sessions_app.schemas import Body, Config, Text, Timestamp


class NewRun(Body):
    task: Text
    config: Config | None = None
    on_busy: Literal["reject", "interrupt"] = "reject"


class RunPageFilters(BaseModel):
    limit: Annotated[int, Field(ge=1, le=1000)] = 200
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class ConsoleFilters(BaseModel):
    tail: Annotated[
        int | None, Field(ge=1, le=1_000_000, description="only the last so many lines")
    ] = None
    grep: Annotated[
        Text | None,
        Field(min_length=1, max_length=1000, description="only lines that contain this text"),
    ] = None
    about: Annotated[
        bool,
        Field(description="begin with a line that says which model was used, or that no AI was"),
    ] = False


class RunAccepted(BaseModel):
    run_id: uuid.UUID
    session_id: uuid.UUID
    status: RunStatus

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls(run_id=run.pk, session_id=run.session_id, status=RunStatus(run.status))


class RunMoved(BaseModel):
    run_id: uuid.UUID
    status: RunStatus
    stopping: bool = Field(description="true: asked to stop, its processes are being ended")

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls(run_id=run.pk, status=RunStatus(run.status), stopping=run.is_stopping)


class RunError(BaseModel):
    error_type: str
    message: str
    suggestion: str
    retryable: bool

    @classmethod
    def of(cls, run: Run) -> Self | None:
        if not run.error_type:
            return None
        return cls(
            error_type=run.error_type,
            message=run.error_message,
            suggestion=run.error_suggestion,
            retryable=run.error_retryable,
        )


class RunDetail(BaseModel):
    run_id: uuid.UUID
    session_id: uuid.UUID
    number: int
    task: str
    config: dict[str, Any]
    mode: str
    status: RunStatus
    stopping: bool
    attempt: int
    queued_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    error: RunError | None
    sandbox_level: int | None
    engine_version: str
    model: str = Field(description="of the last attempt; empty before the first")
    prompt_hashes: dict[str, str] = Field(description="sha256 of the prompt of each agent")
    not_before: Timestamp | None = Field(description="it was postponed until then")
    result: Any
    cost_usd: float | None = Field(description="null: not known")
    total_tokens: int

    @classmethod
    def of(cls, run: Run) -> Self:
        """Of a run that was found with_costs()."""
        return cls(
            run_id=run.pk,
            session_id=run.session_id,
            number=run.number,
            task=run.task,
            config=run.config,
            mode=run.session.mode,
            status=RunStatus(run.status),
            stopping=run.is_stopping,
            attempt=run.attempt,
            queued_at=run.queued_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            error=RunError.of(run),
            sandbox_level=run.sandbox_level,
            engine_version=run.engine_version,
            model=run.model,
            prompt_hashes=run.prompt_hashes,
            not_before=run.not_before,
            result=run.result,
            **run_costs(run),
        )


def run_costs(run: Run) -> dict[str, Any]:
    """What with_costs() found; the type checker knows no annotation."""
    found = vars(run)
    return {"cost_usd": _usd(found["cost_usd"]), "total_tokens": found["total_tokens"]}


class RunList(BaseModel):
    session_id: uuid.UUID
    total_runs: int
    runs: list[RunDetail]


class StepInfo(BaseModel):
    index: int
    title: str
    agent: str
    status: StepStatus
    attempts: int = Field(description="how often it began")
    started_at: Timestamp | None
    finished_at: Timestamp | None
    summary: str
    error: str

    @classmethod
    def of(cls, step: Step) -> Self:
        return cls(**{name: getattr(step, name) for name in cls.model_fields})


class StepList(BaseModel):
    run_id: uuid.UUID
    steps: list[StepInfo]


class CostsOfCalls(BaseModel):
    cost: float | None = Field(description="USD; null: not known")
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = Field(description="of the prompt's")
    call_count: int

    @classmethod
    def fields_of(cls, costs: Costs) -> dict[str, Any]:
        return {
            "cost": _usd(costs.cost_usd),
            "tokens": costs.tokens,
            "prompt_tokens": costs.input_tokens,
            "completion_tokens": costs.output_tokens,
            "cached_tokens": costs.cached_tokens,
            "call_count": costs.calls,
        }


class CostsOfModel(CostsOfCalls):
    provider: str
    model: str


class CostsOfStep(CostsOfCalls):
    step: str | None = Field(description="its index; null: outside of any step")
    title: str


class RunCosts(BaseModel):
    """What the model calls of a run took; a sum with an unknown part is null."""

    run_id: uuid.UUID
    total_cost_usd: float | None = Field(description="null: not known")
    total_tokens: int
    total_prompt_tokens: int
    total_completion_tokens: int
    total_cached_tokens: int
    record_count: int
    model_breakdown: list[CostsOfModel]
    step_breakdown: list[CostsOfStep]

    @classmethod
    def of(cls, run: Run) -> Self:
        total = costs_of(run.pk)
        return cls(
            run_id=run.pk,
            total_cost_usd=_usd(total.cost_usd),
            total_tokens=total.tokens,
            total_prompt_tokens=total.input_tokens,
            total_completion_tokens=total.output_tokens,
            total_cached_tokens=total.cached_tokens,
            record_count=total.calls,
            model_breakdown=_by_model(run.pk),
            step_breakdown=_by_step(run.pk),
        )


def _by_model(run_id: uuid.UUID) -> list[CostsOfModel]:
    return [
        CostsOfModel(provider=provider, model=model, **CostsOfCalls.fields_of(costs))
        for (provider, model), costs in costs_by(run_id, "provider", "model").items()
    ]


def _by_step(run_id: uuid.UUID) -> list[CostsOfStep]:
    """In the order of the plan; what belongs to no step comes first."""
    titles = dict(Step.objects.filter(run_id=run_id).values_list("index", "title"))
    parts = [
        CostsOfStep(step=step, title=titles.get(_index(step), ""), **CostsOfCalls.fields_of(costs))
        for (step,), costs in costs_by(run_id, "step").items()
    ]
    return sorted(parts, key=lambda part: (_index(part.step), part.step or ""))


def _index(step: str | None) -> int:
    return int(step) if step and step.isdecimal() else 0


def _usd(cost: Decimal | None) -> float | None:
    return None if cost is None else float(cost)


class FileInfo(BaseModel):
    path: str
    kind: str
    mime: str
    size: int
    sha256: str

    @classmethod
    def fields_of(cls, artifact: Artifact) -> dict[str, Any]:
        return {name: getattr(artifact, name) for name in FileInfo.model_fields}

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        return cls(**cls.fields_of(artifact))


class FileOfRun(FileInfo):
    run_id: uuid.UUID | None = Field(description="null: a person brought it")
    created_at: Timestamp

    @classmethod
    def of(cls, artifact: Artifact) -> Self:
        known = cls.fields_of(artifact)
        return cls(**known, run_id=artifact.run_id, created_at=artifact.created_at)


class FileList(BaseModel):
    files: list[FileOfRun]

    @classmethod
    def of_all(cls, artifacts: list[Artifact]) -> Self:
        return cls(files=[FileOfRun.of(artifact) for artifact in artifacts])
