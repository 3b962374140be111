"""How an endpoint puts its answers: names, ids, order of fields, chunks of a stream.

Two that differ in everything the protocol leaves open; the same tests run against both.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from tests.endpoint.minds import Reply


@dataclass(frozen=True)
class Personality:
    model: str
    call_id: str  # of tool calls, before its random part
    text_before_calls: bool
    parallel_calls: bool
    reversed_fields: bool
    piece: int  # characters of a delta
    usage: Literal["own chunk", "last chunk", "always", "never"]  # in a stream
    says_tool_calls: bool  # in finish_reason; some say "stop" whatever there is
    line_end: str
    keep_alive: bool  # comments between the events

    def new_call_id(self) -> str:
        return self.call_id + secrets.token_hex(12)

    def ordered(self, value: Any) -> Any:
        """The same JSON with its fields in this endpoint's order."""
        if isinstance(value, dict):
            items = [(name, self.ordered(part)) for name, part in value.items()]
            return dict(reversed(items) if self.reversed_fields else items)
        if isinstance(value, list):
            return [self.ordered(part) for part in value]
        return value


PLAIN = Personality(
    model="plain-1",
    call_id="call_",
    text_before_calls=False,
    parallel_calls=False,
    reversed_fields=False,
    piece=24,
    usage="own chunk",
    says_tool_calls=True,
    line_end="\n",
    keep_alive=False,
)
CONTRARY = Personality(
    model="lab/Contrary-7B:latest",
    call_id="chatcmpl-tool-",
    text_before_calls=True,
    parallel_calls=True,
    reversed_fields=True,
    piece=7,
    usage="last chunk",
    says_tool_calls=False,
    line_end="\r\n",
    keep_alive=True,
)
WITHOUT_USAGE = replace(PLAIN, model="plain-without-usage", usage="never")
PERSONALITIES = {"plain": PLAIN, "contrary": CONTRARY, "without-usage": WITHOUT_USAGE}


@dataclass(frozen=True)
class Tokens:
    """Of one call, exact: the endpoint says so and tests add it up."""

    prompt: int
    completion: int

    def as_usage(self) -> dict[str, Any]:
        total = self.prompt + self.completion
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": total,
        }


@dataclass
class Answer:
    """A reply with its id, ids of calls and tokens: what goes over the wire, whole or in pieces."""

    id: str
    style: Personality
    text: str
    calls: list[dict[str, Any]]
    tokens: Tokens
    finish: str | None = None

    @classmethod
    def to(cls, reply: Reply, style: Personality, tokens: Tokens) -> Answer:
        calls = [
            {
                "id": style.new_call_id(),
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for name, arguments in reply.calls
        ]
        return cls(f"chatcmpl-{secrets.token_hex(12)}", style, reply.text, calls, tokens)

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.calls:
            message["tool_calls"] = self.calls
        choice = {"index": 0, "message": message, "finish_reason": self._finish(), "logprobs": None}
        frame = self._frame("chat.completion") | {"choices": [choice]}
        shown = frame if self.style.usage == "never" else frame | {"usage": self.tokens.as_usage()}
        return dict(self.style.ordered(shown))

    def chunks(self) -> Iterator[dict[str, Any]]:
        """Deltas of text and of calls, then the finish and where this endpoint puts its usage."""
        yield self._chunk({"role": "assistant", "content": ""})
        for piece in self._pieces(self.text):
            yield self._chunk({"content": piece})
        for index, call in enumerate(self.calls):
            yield from self._call_chunks(index, call)
        with_usage = self.style.usage in {"last chunk", "always"}
        yield self._chunk({}, finish=self._finish(), usage=with_usage)
        if self.style.usage == "own chunk":
            yield dict(
                self.style.ordered(
                    self._frame("chat.completion.chunk")
                    | {"choices": [], "usage": self.tokens.as_usage()}
                )
            )

    def _call_chunks(self, index: int, call: dict[str, Any]) -> Iterator[dict[str, Any]]:
        function = call["function"]
        first = {"name": function["name"], "arguments": ""}
        yield self._chunk({"tool_calls": [{"index": index, **call, "function": first}]})
        for piece in self._pieces(function["arguments"]):
            part = {"index": index, "function": {"arguments": piece}}
            yield self._chunk({"tool_calls": [part]})

    def _chunk(
        self, delta: dict[str, Any], *, finish: str | None = None, usage: bool = False
    ) -> dict[str, Any]:
        frame = self._frame("chat.completion.chunk")
        frame["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish}]
        if usage or self.style.usage == "always":
            frame["usage"] = self.tokens.as_usage()
        return dict(self.style.ordered(frame))

    def _frame(self, kind: str) -> dict[str, Any]:
        created = int(time.time())
        return {"id": self.id, "object": kind, "created": created, "model": self.style.model}

    def _pieces(self, text: str) -> Iterator[str]:
        size = max(self.style.piece, len(text) // 400)  # a huge answer in some hundred chunks
        for start in range(0, len(text), size):
            yield text[start : start + size]

    def _finish(self) -> str:
        if self.finish:
            return self.finish
        return "tool_calls" if self.calls and self.style.says_tool_calls else "stop"
