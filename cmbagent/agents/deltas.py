"""What a model writes, told while it writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable

from pydantic_ai import (
    AgentStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    RunContext,
    TextPart,
    TextPartDelta,
)

from cmbagent.context import Run

_EVERY_S = 0.1
_AT_LEAST = 400  # characters that do not wait
_AT_MOST = 4_000  # of one event; some endpoints send a whole answer in one piece


class Deltas:
    """Handles the events of a model's stream: its text goes to `tell` in pieces worth an event."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._text = ""
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(
        self, context: RunContext[Run], events: AsyncIterable[AgentStreamEvent]
    ) -> None:
        try:
            async for event in events:
                self._add(_text_of(event))
        finally:
            self._flush()

    def _add(self, text: str) -> None:
        self._text += text
        if len(self._text) >= _AT_LEAST:
            self._flush()
        elif self._text and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._flush)

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
