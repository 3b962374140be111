"""What a model writes, told while it writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable

from pydantic_ai import (
    AgentStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    RunContext,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.exceptions import UnexpectedModelBehavior

from cmbagent.context import Run

_EVERY_S = 0.1
_AT_LEAST = 400  # characters that do not wait
_AT_MOST = 4_000  # of one event; some endpoints send a whole answer in one piece
MAX_TOLD = 256 * 1024  # characters of one answer; what is longer is no talk to follow
MAX_ANSWER = 8 * 2**20  # characters
_MORE = "\n[… the rest is not shown while it is written]"


class Deltas:
    """Handles the events of a model's stream: its text goes to `tell` in pieces worth an event,
    at the pace of `flush`. Raises UnexpectedModelBehavior for an answer that is too long."""

    def __init__(self, tell: Callable[[str], None], flush: Callable[[], Awaitable[None]]) -> None:
        self._tell, self._taken = tell, flush
        self._text = ""
        self._size = 0  # of the answer so far
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(
        self, context: RunContext[Run], events: AsyncIterable[AgentStreamEvent]
    ) -> None:
        self._size = 0
        try:
            async for event in events:
                self._add(_text_of(event))
                await self._taken()
        finally:
            self._flush()

    def _add(self, text: str) -> None:
        self._text += self._shown(text)
        if len(self._text) >= _AT_LEAST:
            self._flush()
        elif self._text and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._flush)

    def _shown(self, text: str) -> str:
        left = MAX_TOLD - self._size
        self._size += len(text)
        if self._size > MAX_ANSWER:
            raise UnexpectedModelBehavior("the answer does not end")
        if len(text) <= left:
            return text
        return text[:left] + _MORE if left >= 0 else ""

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text, self._text = self._text, ""
        for begin in range(0, len(text), _AT_MOST):
            self._tell(text[begin : begin + _AT_MOST])


def _text_of(event: AgentStreamEvent) -> str:
    match event:
        case PartStartEvent(part=TextPart(content=text)):
            return text
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return text
    return ""
