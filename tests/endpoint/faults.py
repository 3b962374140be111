"""How an endpoint misbehaves, and when: `Fault("rate_limited", number=2, times=1)`.

Three sorts: an HTTP error instead of an answer (ERRORS), an answer that is spoiled on its way
(TRANSPORT), and a reply that no sound model would give (REPLIES).
"""

from __future__ import annotations

import email.utils
import json
import time
from dataclasses import dataclass
from typing import Any

from tests.endpoint.conversation import Conversation
from tests.endpoint.minds import Reply

MEGABYTE = 2**20
TRANSPORT = ("silent", "stalled", "cut", "not_json", "wrong_shape", "slow")
REPLIES = (
    "garbage_arguments",
    "unknown_tool",
    "endless",
    "huge",
    "strange_text",
    "strange_arguments",
    "empty",
    "filtered",
    "too_long",
)


@dataclass
class Fault:
    """One kind of misbehaviour, for the requests that fit: `number` in their conversation (None:
    any), `words` in their task, as often as `times` (None: always)."""

    kind: str
    number: int | None = None
    words: str = ""
    times: int | None = None
    seconds: float = 2.0  # of Retry-After, of slowness
    size: int = 2 * MEGABYTE

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such misbehaviour: {self.kind}")

    def fits(self, spoken: Conversation) -> bool:
        if self.times == 0 or self.words not in spoken.task:
            return False
        return self.number in {None, spoken.number}

    def use_up(self) -> None:
        if self.times is not None:
            self.times -= 1


@dataclass(frozen=True)
class HttpError:
    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def _error(kind: str, message: str, code: str | None = None, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


def http_error(fault: Fault, authorization: str) -> HttpError | None:
    """The error that the fault is; None when it is of another sort."""
    if fault.kind not in ERRORS:
        return None
    status, body = ERRORS[fault.kind]
    text = json.dumps(body).replace("KEY", authorization.removeprefix("Bearer "))
    return HttpError(status, json.loads(text), _retry_after(fault))


def _retry_after(fault: Fault) -> dict[str, str]:
    if fault.kind == "rate_limited":
        return {"Retry-After": f"{fault.seconds:g}"}
    if fault.kind == "rate_limited_date":
        when = email.utils.formatdate(time.time() + fault.seconds + 1, usegmt=True)
        return {"Retry-After": when}
    return {}


_BUSY = _error("requests", "Rate limit reached, please slow down.", "rate_limit_exceeded")
ERRORS: dict[str, tuple[int, dict[str, Any]]] = {
    "rate_limited": (429, _BUSY),
    "rate_limited_date": (429, _BUSY),
    "rate_limited_silent": (429, _BUSY),
    "quota": (
        429,
        _error("insufficient_quota", "You exceeded your current quota.", "insufficient_quota"),
    ),
    "server_error": (500, _error("server_error", "The server had an error.")),
    "overloaded": (503, _error("server_error", "The engine is currently overloaded.")),
    "unauthorized": (
        401,
        _error("invalid_request_error", "Incorrect API key provided: KEY.", "invalid_api_key"),
    ),
    "forbidden": (403, _error("invalid_request_error", "KEY has no access to this model.")),
    "no_such_model": (
        404,
        _error("invalid_request_error", "The model does not exist.", "model_not_found"),
    ),
    "context_too_long": (
        400,
        _error(
            "invalid_request_error",
            "This model's maximum context length is 128 tokens. However, your messages resulted in "
            "4000 tokens. Please reduce the length of the messages.",
            "context_length_exceeded",
        ),
    ),
}
KINDS = (*ERRORS, *TRANSPORT, *REPLIES)


def reply_of(fault: Fault, spoken: Conversation, sound: Reply) -> Reply:
    """What is said instead of the sound reply."""
    code = {
        "garbage_arguments": '{"code": print(1)',
        "endless": json.dumps({"code": f"print('again', {spoken.number})"}),
        "strange_arguments": json.dumps({"code": f"print('{_STRANGE}')"}),
    }
    match fault.kind:
        case "garbage_arguments" | "endless" | "strange_arguments":
            return Reply("", [("run_python", code[fault.kind])])
        case "too_long":  # the limit of tokens cut it
            calls = [(name, text[: len(text) // 2]) for name, text in sound.calls]
            return Reply(sound.text[: len(sound.text) // 2], calls)
        case "unknown_tool":
            return Reply("", [("launch_rocket", '{"where": "up"}')])
        case "huge":
            return Reply((_MANY * (fault.size // len(_MANY) + 1))[: fault.size])
        case "strange_text":
            return Reply(f"{sound.text} {_STRANGE}", sound.calls)
    return Reply() if fault.kind in {"empty", "filtered"} else sound


_STRANGE = "A NUL \0, a lone \ud800 surrogate."
_MANY = "So many words. "
