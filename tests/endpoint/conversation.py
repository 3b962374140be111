"""What a request to the endpoint says: the task, and what was called and came of it so far."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any


class Refused(Exception):
    """The request lacks what an answer needs; the test that made it is wrong, or the engine is."""


@dataclass
class Call:
    """A tool call that the model made before, with what the tool said to it."""

    id: str
    name: str
    arguments: str  # as the model wrote it: JSON or not
    result: str | None = None  # None: the request does not tell

    @property
    def code(self) -> str:
        try:
            return str(json.loads(self.arguments)["code"])
        except (ValueError, KeyError, TypeError):
            return ""


@dataclass
class Round:
    """One answer of the model, and what was said to it."""

    text: str
    calls: list[Call]
    said: list[str] = field(default_factory=list)  # by the user side, outside of tools


@dataclass
class Conversation:
    model: str
    system: str
    task: str
    tools: list[str]
    rounds: list[Round]
    digest: str  # equal for equal messages

    @property
    def number(self) -> int:
        """Of this request in its conversation, from 1."""
        return len(self.rounds) + 1

    @property
    def role(self) -> str:
        """Who speaks through the model: only an engineer has an interpreter."""
        called = {call.name for past in self.rounds for call in past.calls}
        return "engineer" if "run_python" in {*self.tools, *called} else "researcher"


def read(body: dict[str, Any]) -> Conversation:
    """Raises Refused for what no chat-completions server would take."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not isinstance(body.get("model"), str):
        raise Refused("a request has a model and messages")
    spoken = Conversation(
        model=body["model"],
        system="\n".join(_text(m) for m in messages if m["role"] in {"system", "developer"}),
        task="",
        tools=[tool["function"]["name"] for tool in body.get("tools", [])],
        rounds=[],
        digest=_digest(messages),
    )
    for message in messages:
        _add(spoken, message)
    return spoken


def _add(spoken: Conversation, message: dict[str, Any]) -> None:
    match message["role"]:
        case "user" if spoken.rounds:
            spoken.rounds[-1].said.append(_text(message))
        case "user":
            spoken.task += _text(message) + "\n"
        case "assistant":
            calls = [_call(call) for call in message.get("tool_calls") or []]
            spoken.rounds.append(Round(_text(message), calls))
        case "tool":
            _note_result(spoken, message)


def _call(call: dict[str, Any]) -> Call:
    function = call["function"]
    return Call(call["id"], function["name"], function["arguments"])


def _note_result(spoken: Conversation, message: dict[str, Any]) -> None:
    for past in spoken.rounds:
        for call in past.calls:
            if call.id == message["tool_call_id"]:
                call.result = _text(message)
                return
    raise Refused(f"a tool's output for a call that nobody made: {message['tool_call_id']}")


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _digest(messages: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:16]
