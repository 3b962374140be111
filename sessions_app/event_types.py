"""One class per type of event; unknown fields are refused. docs/events.md is made from it.

The vocabulary is protocol.md's. Types that a later room brings (approvals, agents, plans) get
their class when something emits them.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_EVENT_BYTES = 32 * 1024
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # neither database nor JSON text takes these


class EventData(BaseModel):
    """What one line of the log says. `event_type` is the class's name in snake case."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    event_type: ClassVar[str]
    truncated: dict[str, dict[str, Any]] | None = None  # field -> {size, artifact}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.event_type = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        return storable(data)

    def stored(self) -> dict[str, Any]:
        """The JSON object that goes into the log."""
        return self.model_dump(mode="json", exclude=set() if self.truncated else {"truncated"})


# -- session ----------------------------------------------------------------------------------
class SessionCreated(EventData):
    mode: str
    name: str


class SessionSuspended(EventData):
    reason: str = ""


class SessionResumed(EventData):
    by: str = ""


class SessionCompleted(EventData):
    by: str = ""


class SessionRepaired(EventData):
    by: str
    action: str
    reason: str


# -- run --------------------------------------------------------------------------------------
class RunQueued(EventData):
    number: int


class RunStarted(EventData):
    attempt: int
    sandbox_level: int | None
    model: str


class RunRecovered(EventData):
    attempt: int
    reason: str


class RunPaused(EventData):
    by: str = ""


class RunResumed(EventData):
    by: str


class RunCancelled(EventData):
    by: str
    processes_ended: int = 0


class RunFailed(EventData):
    error_type: str
    message: str
    suggestion: str = ""
    retryable: bool = False


class RunCompleted(EventData):
    summary: str
    files: list[str] = Field(default_factory=list)
    execution_time_s: float
    cost_usd: float | None


# -- talk -------------------------------------------------------------------------------------
class UserMessage(EventData):
    content: str


class AgentMessage(EventData):
    agent: str
    role: str = "assistant"
    content: str


# -- work -------------------------------------------------------------------------------------
class PhaseChanged(EventData):
    phase: str


class CodeExecution(EventData):
    language: str
    path: str
    exit_code: int | None
    duration_s: float
    ended_by: str


class Output(EventData):
    stream: Literal["stdout", "stderr"]
    line: int  # the number of its first line in the run's console, from 1
    text: str
    cont: bool = False  # its first line began in this stream's event before


class FilesUpdated(EventData):
    files: list[dict[str, Any]]
    skipped: list[dict[str, str]] = Field(default_factory=list)


# -- trouble ----------------------------------------------------------------------------------
class Error(EventData):
    error_type: str
    message: str


EVENT_TYPES: dict[str, type[EventData]] = {
    cls.event_type: cls for cls in EventData.__subclasses__()
}
# What an engine may say of itself. The rest are facts that only the services may state.
ENGINE_EVENT_TYPES = frozenset({"agent_message", "phase_changed", "code_execution", "error"})


def parse_event(event_type: str, data: Any) -> EventData:
    """The event an engine sent. Raises ValueError (pydantic's is one) when it is none."""
    if event_type not in ENGINE_EVENT_TYPES:
        raise ValueError(f"an engine cannot say {event_type!r}")
    return EVENT_TYPES[event_type].model_validate(data)


def storable(value: Any) -> Any:
    """The same value as both databases take it: no NUL, no lone surrogate, no NaN."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item) for item in value]
    return value


def encoded_size(value: Any) -> int:
    """Bytes of a value as it stands in the log."""
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


STREAMS: tuple[str, ...] = get_args(Output.model_fields["stream"].annotation)
