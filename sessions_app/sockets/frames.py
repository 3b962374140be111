"""The frames of protocol.md section 3, one class each; docs/socket.schema.json is made from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

MAX_FRAME_BYTES = 64 * 1024  # what a client may send
MAX_EVENTS = 500  # of one `events` frame
MAX_EVENTS_BYTES = 128 * 1024  # of one `events` frame, unless one event alone is longer
HEARTBEAT_SECONDS = 15

ErrorCode = Literal["bad_frame", "unknown_type", "not_found", "slow_down", "too_many_subscriptions"]
Counter = Annotated[int, Field(ge=0, le=2**53)]  # what JavaScript counts exactly


class FrameRefused(ValueError):
    """The client is told, the socket stays open."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


# -- client to server -------------------------------------------------------------------------
class ClientFrame(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Subscribe(ClientFrame):
    """Start, or rewind to `after`; `id` grows and is echoed in `events`."""

    type: Literal["subscribe"]
    id: Counter = 0
    session: UUID
    after: Counter = 0
    epoch: str | None = Field(default=None, max_length=64)
    format: Literal["json", "html"] = "json"


class Unsubscribe(ClientFrame):
    type: Literal["unsubscribe"]
    session: UUID


class Ack(ClientFrame):
    """Everything up to `seq` is processed: room for more."""

    type: Literal["ack"]
    session: UUID
    seq: Counter


class Ping(ClientFrame):
    type: Literal["ping"]
    id: Counter = 0


AnyClientFrame = Annotated[Subscribe | Unsubscribe | Ack | Ping, Field(discriminator="type")]
_client_frames: TypeAdapter[Subscribe | Unsubscribe | Ack | Ping] = TypeAdapter(AnyClientFrame)
CLIENT_TYPES = ("subscribe", "unsubscribe", "ack", "ping")


def parse_frame(text: str) -> Subscribe | Unsubscribe | Ack | Ping:
    """What a client said. Raises FrameRefused naming the field."""
    try:
        return _client_frames.validate_json(text)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> FrameRefused:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "union_tag_invalid":
        known = ", ".join(CLIENT_TYPES)
        return FrameRefused("unknown_type", f"Unknown type of frame; known are {known}.")
    if first["type"] == "union_tag_not_found":
        return FrameRefused("bad_frame", "A frame is a JSON object with a `type`.")
    field = ".".join(str(part) for part in first["loc"][1:])[:100]
    return FrameRefused("bad_frame", f"{field}: {first['msg']}" if field else first["msg"])


# -- server to client -------------------------------------------------------------------------
class ServerFrame(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def text(self) -> str:
        return self.model_dump_json(exclude_none=True)


class Hello(ServerFrame):
    """The first frame. `build` changes when the server's code does."""

    type: Literal["hello"] = "hello"
    protocol: Literal[1] = 1
    connection_id: UUID
    heartbeat_s: int = HEARTBEAT_SECONDS
    build: str


class EventItem(ServerFrame):
    """One line of the log; `data` by type: docs/events.md."""

    seq: int
    event_type: str
    timestamp: str
    session_id: UUID
    run_id: UUID | None
    step: str | None
    data: dict[str, Any]


class HtmlEventItem(ServerFrame):
    """The same line as a piece of the page, for `format: "html"`; the same for all who may see it.

    `append` puts `html` at the end of its slot, `drop` leaves the page as it is. `meta` is what the
    page needs beside the html or folds together by itself (output, deltas): docs/decisions/0026.
    """

    seq: int
    event_type: str
    timestamp: str
    session_id: UUID
    run_id: UUID | None
    step: str | None
    slot: Literal["talk", "console", "drafts", "none"]
    op: Literal["append", "drop"]
    html: str
    meta: dict[str, Any]


class Events(ServerFrame):
    """A contiguous piece of the log; `id` is that of the subscribe, 0 for the socket's own path.

    All events are of the format that was subscribed.
    """

    type: Literal["events"] = "events"
    session: UUID
    id: int
    first: int
    last: int
    events: Annotated[
        list[EventItem] | list[HtmlEventItem], Field(min_length=1, max_length=MAX_EVENTS)
    ]


class Live(ServerFrame):
    """Caught up; sent once per subscribe."""

    type: Literal["live"] = "live"
    session: UUID
    head: int


class Reset(ServerFrame):
    """A backup was restored: the subscription has ended, begin again from the page or from 0."""

    type: Literal["reset"] = "reset"
    session: UUID
    epoch: str
    head: int


class Pong(ServerFrame):
    """`sent`: the last seq sent of each subscribed session."""

    type: Literal["pong"] = "pong"
    id: int
    sent: dict[UUID, int]


class ErrorFrame(ServerFrame):
    """The socket stays open. `session` where the error is about one."""

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    session: UUID | None = None


AnyServerFrame = Annotated[
    Hello | Events | Live | Reset | Pong | ErrorFrame, Field(discriminator="type")
]


def events_text(
    *, session: UUID, subscription_id: int, first: int, last: int, events: Sequence[str]
) -> str:
    """An `events` frame around events that are JSON already: they are encoded once."""
    head = f'"session":"{session}","id":{subscription_id},"first":{first},"last":{last}'
    return f'{{"type":"events",{head},"events":[{",".join(events)}]}}'


EVENTS_OVERHEAD = 200  # bytes of an `events` frame beside its events, at most


def encode_event(event: dict[str, Any]) -> str:
    """ASCII only: its length is its size on the wire, and no character can refuse to be sent."""
    return json.dumps(event, separators=(",", ":"))


def socket_schema() -> dict[str, Any]:
    """JSON Schema of all frames, by direction."""
    template = "#/$defs/{model}"
    client = TypeAdapter(AnyClientFrame).json_schema(ref_template=template)
    server = TypeAdapter(AnyServerFrame).json_schema(mode="serialization", ref_template=template)
    definitions = {**client.pop("$defs"), **server.pop("$defs")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "CMBAgent WebSocket frames, protocol 1",
        "$defs": {**definitions, "client_to_server": client, "server_to_client": server},
        "anyOf": [{"$ref": "#/$defs/client_to_server"}, {"$ref": "#/$defs/server_to_client"}],
    }
