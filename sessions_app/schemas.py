"""What the API of sessions reads and writes (protocol.md 2). Unknown fields are refused."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

from sessions_app.event_types import EVENT_TYPES, storable
from sessions_app.models import Event, Session, SessionState
from sessions_app.modes import MODES, Mode
from sessions_app.serialization import timestamp_json
from sessions_app.statuses import SessionStatus

MAX_OFFSET = 1_000_000
MAX_SEQ = 2**63 - 1


def _storable(value: Any) -> Any:
    if storable(value) != value:
        raise ValueError("contains what cannot be stored (NUL, a lone surrogate, infinity)")
    return value


def _one_of(vocabulary: tuple[str, ...]) -> AfterValidator:
    def known(value: str) -> str:
        if value not in vocabulary:
            raise ValueError(f"unknown; use one of {', '.join(vocabulary)}")
        return value

    return AfterValidator(known)


Timestamp = Annotated[datetime, PlainSerializer(timestamp_json, return_type=str)]
Text = Annotated[str, AfterValidator(_storable)]
Config = Annotated[dict[str, Any], AfterValidator(_storable)]


class FieldsInvalid(Exception):
    """The request is understood, but fields of it cannot be accepted."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {problem}" for name, problem in fields.items()))
        self.fields = fields


class Body(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid")


class NoFields(Body):
    """An empty object, or no body at all."""


class Problem(BaseModel):
    """Every error: a sentence for a person, a word for a program, and which fields it is about."""

    detail: str
    code: str
    fields: dict[str, str] | None = None


class NewSession(Body):
    mode: Text
    name: Annotated[Text, Field(max_length=200)] = ""
    config: Config | None = None


class SessionFilters(BaseModel):
    mode: Annotated[str, _one_of(tuple(MODES))] | None = None
    status: SessionStatus | None = None
    q: Annotated[Text, Field(max_length=200, description="part of the name")] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET)] = 0
    cursor: Annotated[str, Field(max_length=200, description="`next_cursor`")] | None = None


class EventFilters(BaseModel):
    after: Annotated[int, Field(ge=0, le=MAX_SEQ)] = 0
    limit: Annotated[int, Field(ge=1, le=5000)] = 500
    event_type: Annotated[str, _one_of(tuple(EVENT_TYPES))] | None = None


class SessionSummary(BaseModel):
    session_id: uuid.UUID
    name: str
    mode: str
    status: SessionStatus
    current_phase: str
    current_step: int | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def fields_of(cls, session: Session) -> dict[str, Any]:
        state = state_of(session)
        return {
            "session_id": session.pk,
            "name": session.name,
            "mode": session.mode,
            "status": SessionStatus(session.status),
            "current_phase": state.current_phase,
            "current_step": state.current_step,
            "created_at": session.created_at,
            "updated_at": session.updated_at,
        }

    @classmethod
    def of(cls, session: Session) -> Self:
        return cls(**cls.fields_of(session))


class Message(BaseModel):
    seq: int
    role: str
    agent: str | None
    content: str
    timestamp: Timestamp
    run_id: uuid.UUID | None

    @classmethod
    def of(cls, event: Event) -> Self:
        from_person = event.event_type == "user_message"
        return cls(
            seq=event.seq,
            role="user" if from_person else event.data.get("role", "assistant"),
            agent=None if from_person else event.data.get("agent"),
            content=event.data.get("content", ""),
            timestamp=event.created_at,
            run_id=event.run_id,
        )


class SessionDetail(SessionSummary):
    config: dict[str, Any]
    context_variables: dict[str, Any]
    plan_data: Any
    version: int
    epoch: str
    last_seq: int
    pending_approvals: list[dict[str, Any]]
    conversation_history: list[Message]

    @classmethod
    def with_talk(cls, session: Session, talk: list[Event]) -> Self:
        state = state_of(session)
        return cls(
            **cls.fields_of(session),
            config=session.config,
            context_variables=state.context_variables,
            plan_data=state.plan_data,
            version=state.version,
            epoch=session.epoch,
            last_seq=session.last_seq,
            pending_approvals=[],  # no mode of this version asks a person
            conversation_history=[Message.of(event) for event in talk],
        )


class SessionList(BaseModel):
    sessions: list[SessionSummary]
    total: int
    total_at_least: bool = Field(description="true: there are more than `total`")
    next_cursor: str | None


class ModeInfo(BaseModel):
    id: str
    label: str
    description: str
    supports_resume: bool
    supports_hitl: bool
    config_schema: dict[str, Any]
    examples: list[dict[str, Any]]

    @classmethod
    def of(cls, mode: Mode) -> Self:
        return cls(**mode.model_dump(), config_schema=mode.config_schema)


class ModeList(BaseModel):
    modes: list[ModeInfo]
    total: int


class EventPage(BaseModel):
    """Described for clients; the page itself is written as it is read."""

    events: list[dict[str, Any]]
    head: int
    epoch: str
    more: bool


def state_of(session: Session) -> SessionState:
    """The state kept beside the session; an empty one where an older session has none."""
    try:
        return session.sessionstate
    except SessionState.DoesNotExist:
        return SessionState(session=session)
