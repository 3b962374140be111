"""One class per type of event; unknown fields are refused. docs/events.md is made from it.

The vocabulary is protocol.md's. Types that a later room brings (approvals, plans) get their class
when something emits them.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

MAX_EVENT_BYTES = 32 * 1024
MAX_STEP_CHARACTERS = 200
MAX_STEPS = 100_000  # of one run
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # neither database nor JSON text takes these


class EventData(BaseModel):
    """What one line of the log says. `event_type` is the class's name in snake case."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    event_type: ClassVar[str]
    truncated: dict[str, dict[str, Any]] | None = None  # field -> {size, artifact}
    _step: str | None = PrivateAttr(None)  # beside the data, not in it: a column of the log

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.event_type = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        return storable(data)

    @property
    def step(self) -> str | None:
        """In which step of its run it was said."""
        return self._step

    def in_step(self, step: str | None) -> Self:
        """The same, said in this step."""
        placed = self.model_copy()
        placed._step = None if step is None else storable(step)[:MAX_STEP_CHARACTERS]
        return placed

    def stored(self) -> dict[str, Any]:
        """The JSON object that goes into the log."""
        return self.model_dump(mode="json", exclude=set() if self.truncated else {"truncated"})


# -- session ----------------------------------------------------------------------------------
class SessionCreated(EventData):
    """The first line of every log."""

    mode: str
    name: str


class SessionExpired(EventData):
    """Untouched for longer than SESSION_TTL. Nothing is deleted; a new task makes it active."""


class SessionRepaired(EventData):
    """Somebody mended it through a service: who, what and why."""

    by: str
    action: str
    reason: str


# -- run --------------------------------------------------------------------------------------
class RunQueued(EventData):
    """A task was accepted; `number` counts the runs of its session from 1."""

    number: int


class RunStarted(EventData):
    """A worker has it. What follows, up to the next one, belongs to this attempt."""

    attempt: int
    sandbox_level: int | None
    model: str


class RunRecovered(EventData):
    """The attempt before was interrupted; only the call that it was in is made again."""

    attempt: int
    reason: str


class RunPaused(EventData):
    """Stopped so that it can go on later."""

    by: str = ""


class RunPostponed(EventData):
    """Something is in its way that goes by: it goes on by itself after `until` (ISO 8601)."""

    error_type: str
    message: str
    until: str
    attempt: int


class RunResumed(EventData):
    """Back in the queue: after a pause, or as a retry of what failed or was cancelled."""

    by: str


class RunCancelled(EventData):
    """Stopped for good; so many processes were ended."""

    by: str
    processes_ended: int = 0


class RunFailed(EventData):
    """It ended without a result: why, and what to do about it."""

    error_type: str
    message: str
    suggestion: str = ""
    retryable: bool = False


class RunCompleted(EventData):
    """It ended with a result; `cost_usd` is null when nobody knows it."""

    summary: str
    files: list[str] = Field(default_factory=list)
    execution_time_s: float
    cost_usd: float | None


# -- talk -------------------------------------------------------------------------------------
class UserMessage(EventData):
    """What a person asked, a task included."""

    content: str


class AgentMessage(EventData):
    """What an agent answered; without a model it says so, and what was done."""

    agent: str
    role: str = "assistant"
    content: str


class AgentDelta(EventData):
    """A part of what an agent is saying; the `agent_message` that follows replaces all of them."""

    agent: str
    content: str


# -- work -------------------------------------------------------------------------------------
class PhaseChanged(EventData):
    """What is going on now, for people."""

    phase: str


class StepStarted(EventData):
    """A step of the plan began, or began again after an interruption; counted from 1."""

    index: int = Field(ge=0, le=MAX_STEPS)
    title: str
    agent: str = ""


class StepCompleted(EventData):
    """It is finished and is not done again."""

    index: int = Field(ge=0, le=MAX_STEPS)
    title: str
    summary: str = ""


class StepFailed(EventData):
    """It ended without a result."""

    index: int = Field(ge=0, le=MAX_STEPS)
    title: str
    error: str


class StepSkipped(EventData):
    """It is not needed any more."""

    index: int = Field(ge=0, le=MAX_STEPS)
    title: str


class ToolCall(EventData):
    """A tool was called and answered."""

    tool_name: str
    arguments: dict[str, Any]
    result: str


class CodeExecution(EventData):
    """A piece of code ended: how, after how long; `ended_by` names a limit it passed."""

    language: str
    path: str
    exit_code: int | None
    duration_s: float
    ended_by: str


class Output(EventData):
    """What executed code printed: joined by stream and attempt, newlines and all."""

    stream: Literal["stdout", "stderr"]
    line: int  # the number of its first line in the run's console, from 1
    text: str
    cont: bool = False  # its first line began in this stream's event before


class FilesUpdated(EventData):
    """Files that the run made or changed, and those that were not taken, each with a reason."""

    files: list[dict[str, Any]]
    skipped: list[dict[str, str]] = Field(default_factory=list)


class CostUpdate(EventData):
    """A model answered: what that took, and the run so far. A cost nobody knows is null."""

    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    total_cost_usd: float | None


# -- trouble ----------------------------------------------------------------------------------
class Error(EventData):
    """Something went wrong that did not end the run."""

    error_type: str
    message: str


EVENT_TYPES: dict[str, type[EventData]] = {
    cls.event_type: cls for cls in EventData.__subclasses__()
}
# What an engine may say of itself. The rest are facts that only the services may state.
ENGINE_EVENT_TYPES = frozenset(
    {
        "agent_delta",
        "agent_message",
        "code_execution",
        "cost_update",
        "error",
        "phase_changed",
        "step_completed",
        "step_failed",
        "step_skipped",
        "step_started",
        "tool_call",
    }
)


def parse_event(event_type: str, data: Any, step: str | None = None) -> EventData:
    """The event an engine sent. Raises ValueError (pydantic's is one) when it is none."""
    if event_type not in ENGINE_EVENT_TYPES:
        raise ValueError(f"an engine cannot say {event_type!r}")
    if step is not None and not isinstance(step, str):
        raise ValueError("a step is named by a text")
    return EVENT_TYPES[event_type].model_validate(data).in_step(step)


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
