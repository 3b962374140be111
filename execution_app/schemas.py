"""What the API of runs and files reads and writes (protocol.md 2). Unknown fields are refused."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field

from execution_app.models import Artifact, Run
from execution_app.statuses import RunStatus
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
    result: Any
    cost_usd: float | None = Field(description="null: not known")
    total_tokens: int | None = Field(description="null: not known")

    @classmethod
    def of(cls, run: Run) -> Self:
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
            result=run.result,
            cost_usd=None,  # no model is called by this version: there is nothing to count
            total_tokens=None,
        )


class RunList(BaseModel):
    session_id: uuid.UUID
    total_runs: int
    runs: list[RunDetail]


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
