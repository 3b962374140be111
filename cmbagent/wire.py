"""JSON lines, both ways, between a supervisor and its engine.

One JSON object per line, UTF-8, told apart by the key "t". The engine's last message is always
an outcome; an engine that ends without one has died.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

MAX_PAYLOAD_BYTES = 64 * 1024 * 1024  # of one journal entry
MAX_LINE_BYTES = MAX_PAYLOAD_BYTES + 1024 * 1024  # an entry, its events and its frame


class LineTooLong(ValueError):
    """The other side sent a line that passes the bound, or never ends its line."""


class NotAMessage(ValueError):
    """A line that is not one JSON object."""


# -- supervisor to engine ---------------------------------------------------------------------
class Sandbox(TypedDict):
    """What confinement this host offers to executed code; level null: none that may be used."""

    level: Literal[1, 2, 3] | None
    remedy: str
    uid: int | None
    readable: list[str]


class ModelSpec(TypedDict):
    """Which model a role uses and how to reach it. The key travels here alone: never in the
    environment, which children inherit. Prices are USD per million tokens, null if not set."""

    provider: Literal["no-model", "openai", "anthropic", "google", "mistral"]
    name: str
    base_url: str | None
    api_key: str | None
    timeout_s: float
    input_price: float | None
    output_price: float | None


class Usage(TypedDict):
    """Of one model call. The cost is null when nobody knows the price, never 0 for that."""

    agent: str
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: float | None


class Start(TypedDict):
    """The first message: all that the engine knows of its run. Paths are absolute but run_dir.
    So many journal entries follow it before anything else."""

    t: Literal["start"]
    run_id: str
    session_id: str
    attempt: int
    run_number: int
    mode: str
    task: str
    config: dict[str, Any]
    work_dir: str
    run_dir: str
    sandbox: Sandbox
    science_env: str
    data_roots: list[str]
    code_threads: int | None
    limits: dict[str, int]
    code_approval: bool  # a person decides about each execution
    models: dict[str, ModelSpec]  # by role; "default" is always there
    spent: list[Usage]  # by calls of this run that were forgotten: no entry tells of them
    journal_entries: int


class Announced(TypedDict):
    """An event that travels with the entry of the fact it announces: both are stored or none."""

    event_type: str
    data: dict[str, Any]
    step: str | None


EntryKind = Literal[
    "agent", "answer", "branch", "execution", "index", "message", "model", "prompt", "step", "tool"
]


class Entry(TypedDict):
    """A finished call. From the engine: store it and say so. To the engine, after the start: it
    was finished by an earlier attempt (then events is empty). `digest` is of the arguments."""

    t: Literal["entry"]
    key: str
    kind: EntryKind
    digest: str
    payload: Any
    usage: Usage | None
    events: list[Announced]


class Stored(TypedDict):
    """The entry of this key is committed."""

    t: Literal["stored"]
    key: str


class Halt(TypedDict):
    """Begin no call any more. Model calls in flight may reach their entries, executed code is
    stopped now; then comes an outcome: interrupted, "halted"."""

    t: Literal["halt"]


class CollectedFile(TypedDict):
    path: str
    kind: str
    mime: str
    size: int


class Collected(TypedDict):
    """The answer to a Collect: what is new or changed since the one before."""

    t: Literal["collected"]
    files: list[CollectedFile]
    skipped: int


# -- engine to supervisor ---------------------------------------------------------------------
class EventMessage(TypedDict):
    t: Literal["event"]
    event_type: str
    data: dict[str, Any]
    step: str | None


class Collect(TypedDict):
    """An execution ended: take its files. The engine starts nothing until they are collected."""

    t: Literal["collect"]


class Log(TypedDict):
    t: Literal["log"]
    level: str
    event: str
    fields: dict[str, Any]


class Failure(TypedDict):
    error_type: str
    message: str
    suggestion: str
    retryable: bool
    key: NotRequired[str]  # of the journal entry from which a retry must begin anew


class Outcome(TypedDict):
    """Completed with result and summary, failed with error, interrupted from outside (no fault of
    the task: the run begins again), or postponed: error says why, the run goes on from its
    journal after so many seconds, null: as the supervisor thinks best."""

    t: Literal["outcome"]
    kind: Literal["completed", "failed", "interrupted", "postponed"]
    retry_after_s: NotRequired[float | None]
    result: NotRequired[dict[str, Any]]
    summary: NotRequired[str]
    error: NotRequired[Failure]
    reason: NotRequired[str]


EngineMessage = EventMessage | Entry | Collect | Log | Outcome
SupervisorMessage = Start | Entry | Stored | Collected | Halt


def encode(message: Mapping[str, Any]) -> bytes:
    """One line. ASCII escapes carry lone surrogates; a NaN is refused, it is not JSON."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def finite(value: Any) -> Any:
    """JSON from outside without its NaN and infinities, which are not JSON: each becomes null."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {name: finite(part) for name, part in value.items()}
        case list():
            return [finite(part) for part in value]
    return value


def decode(line: bytes) -> dict[str, Any]:
    """Raises NotAMessage."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotAMessage(str(error)) from error
    if not isinstance(message, dict):
        raise NotAMessage("a message is a JSON object")
    return message


class Lines:
    """Bytes in, whole lines out; a partial last line waits for the rest."""

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._parts: list[bytes] = []  # joined once, when the line ends: a long line stays linear
        self._size = 0
        self._max_bytes = max_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in this data, without their ends. Raises LineTooLong."""
        head, *tail = data.split(b"\n")
        self._add(head)
        lines = []
        for part in tail:
            lines.append(b"".join(self._parts))
            self._parts, self._size = [], 0
            self._add(part)
        return lines

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._max_bytes:
            raise LineTooLong(f"a line of more than {self._max_bytes} bytes")
        if part:
            self._parts.append(part)
