"""A run inside the test's own process: a journal in memory, a link to nobody, a scripted model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from cmbagent import wire
from cmbagent.agents import conversation, converse
from cmbagent.context import Ask, Run, nobody
from cmbagent.journal import Journal
from tests.cmbagent.supervision import start_message

Said = str | list[str] | dict[str, Any]  # a text, a text in pieces, arguments of tools by name
SPEC: wire.ModelSpec = {
    "provider": "openai",
    "name": "scripted-1",
    "base_url": "http://127.0.0.1:9/v1",
    "api_key": "none",
    "timeout_s": 5.0,
    "input_price": 1.0,
    "output_price": 2.0,
}


class Book:
    """Keeps what a journal gives it; `calls` are those that were really made."""

    def __init__(self, entries: Iterable[wire.Entry] = ()) -> None:
        self.entries: list[wire.Entry] = []
        self.calls: list[Any] = []
        self.journal = Journal(entries, self._keep)

    @property
    def keys(self) -> list[str]:
        return [entry["key"] for entry in self.entries]

    async def _keep(self, entry: wire.Entry) -> None:
        await asyncio.sleep(0)
        self.entries.append(json.loads(json.dumps(entry)))

    def returning(self, value: Any) -> Callable[[], Awaitable[Any]]:
        async def body() -> Any:
            self.calls.append(value)
            return value

        return body

    async def once(self, name: str, value: Any, arguments: Any = None) -> Any:
        return await self.journal.once("tool", name, arguments, self.returning(value))


class Silent:
    """A link to nobody that notes what was sent."""

    def __init__(self) -> None:
        self.sent: list[wire.EngineMessage] = []

    def send(self, message: wire.EngineMessage) -> None:
        self.sent.append(message)

    async def flush(self) -> None:
        pass

    async def collect(self) -> wire.Collected:
        return {"t": "collected", "files": [], "skipped": 0}


class Script:
    """A model that says one thing after the other, and notes what it was asked."""

    def __init__(self, *said: Said) -> None:
        self.said = said
        self.asked: list[list[ModelMessage]] = []

    async def stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        self.asked.append(messages)
        said = self.said[sum(isinstance(message, ModelResponse) for message in messages)]
        if isinstance(said, dict):
            calls = enumerate(said.items(), start=1)
            yield {
                n: DeltaToolCall(name, json.dumps(args), tool_call_id=f"call-{n}")
                for n, (name, args) in calls
            }
            return
        for piece in [said] if isinstance(said, str) else said:
            yield piece

    def speaks_in(self, patch: pytest.MonkeyPatch) -> Script:
        """For every role, in place of what the run's specification names."""
        model = FunctionModel(stream_function=self.stream, model_name="scripted-1")
        patch.setattr(conversation, "build_model", lambda spec, run: model)
        return self


def run_with(
    book: Book,
    link: Silent | None = None,
    *,
    work_dir: Path = Path("/nowhere"),
    ask: Ask = nobody,
    task: str = "a task",
    **changes: Any,
) -> Run:
    """Of a model that a script speaks for."""
    start = start_message(work_dir, task, **{"models": {"default": SPEC}, **changes})
    return Run(start, link or Silent(), book.journal, converse=converse, ask=ask)
