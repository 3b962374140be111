"""Ties an agent's calls to the run's journal, by the library's public durable backend.

What the library needs is stored as the library writes it (JSON_CODEC). What a call is recognised
by is our own: names and digests that a new release of the library does not change.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError
from pydantic_ai import ModelMessage, ModelResponse
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    DurableOperationId,
    JournalCallableOperationBackend,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
)
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from cmbagent import wire
from cmbagent.agents.deltas import Deltas
from cmbagent.context import Run
from cmbagent.journal import Announcement
from cmbagent.models.failures import translated
from cmbagent.models.pricing import usage_of
from cmbagent.report import total_cost

_SETTINGS = ("max_tokens", "temperature", "top_p", "seed", "thinking")  # that shape an answer
_SURROGATE = re.compile("[\ud800-\udfff]")
_PART = ("part_kind", "content", "tool_name", "args", "tool_call_id")


class Durability(BaseDurabilityCapability[Run]):
    """`speaker` is who says what the model answers. Without AI nothing is written bit by bit, and
    nothing is spent that would be worth an event."""

    engine_spec = DurabilityEngineSpec(
        engine_name="CMBAgent",
        durable_unit_noun="call",
        durable_container_noun="run",
        codec=JSON_CODEC,
        journal_discovery=False,
        sequential_tools_in_durable_context=True,  # keys are ordinals: the order must be the same
        wrapped_toolset_kinds=frozenset({"function"}),
    )

    def __init__(
        self, run: Run, spec: wire.ModelSpec, *, agent: str, speaker: str, is_ai: bool
    ) -> None:
        self._run, self._spec, self._is_ai = run, spec, is_ai
        self._agent_name, self._speaker = agent, speaker
        deltas = Deltas(self._tell, run.flush) if is_ai else None
        super().__init__(event_stream_handler=deltas, name=agent)

    @property
    def in_durable_context(self) -> bool:
        return True

    def get_durable_operation_backend(self) -> Backend:
        return Backend(self._run, self._spec, self._agent_name, self._announce_response)

    def _tell(self, text: str) -> None:
        self._run.emit("agent_delta", agent=self._speaker, content=text)

    def _announce_response(self, payload: Any) -> Announcement:
        response: ModelResponse = JSON_CODEC.load(ModelResponse, payload)
        usage = usage_of(self._spec, self._agent_name, response)
        said = Announcement(usage=usage)
        if response.text:
            said.events += self._run.announcing_message(self._speaker, response.text).events
        if self._is_ai:
            said.events += self._run.announcing("cost_update", **self._cost(usage)).events
        return said

    def _cost(self, usage: wire.Usage) -> dict[str, Any]:
        return {
            "model": usage["model"],
            "input_tokens": usage["input_tokens"],
            "output_tokens": usage["output_tokens"],
            "cost_usd": usage["cost_usd"],
            "total_cost_usd": total_cost([*self._run.journal.usages(), usage]),
        }


class Backend(JournalCallableOperationBackend[None]):
    """Each model request and each tool call is one entry."""

    def __init__(
        self,
        run: Run,
        spec: wire.ModelSpec,
        agent: str,
        announce_response: Callable[[Any], Announcement],
    ) -> None:
        config = RoleBasedOperationConfig(model=None, event=None, capability=None, tool=None)
        super().__init__(agent_name=agent, config=config)
        self._run, self._spec, self._announce_response = run, spec, announce_response

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: None,
    ) -> object:
        match operation_id:
            case ModelRequestId():
                return await self._request(body, cache_key)
            case ToolsetCallToolId():
                return await self._call_tool(body, cache_key)
        return await body()  # nothing that costs or changes anything: no entry

    async def _request(
        self, body: Callable[[], Awaitable[object]], cache_key: tuple[Any, ...]
    ) -> object:
        _, messages, settings, parameters, *_ = cache_key

        async def readable() -> Any:
            with translated(self._spec):  # it is no entry: a retry asks again
                return _readable(await body())

        return await self._run.journal.once(
            "model",
            "model",
            request_identity(messages, settings, parameters),
            readable,
            announce=self._announce_response,
        )

    async def _call_tool(
        self, body: Callable[[], Awaitable[object]], cache_key: tuple[Any, ...]
    ) -> object:
        name, arguments, *_ = cache_key

        def announce(payload: Any) -> Announcement:
            result = payload.get("result", payload.get("message"))
            return self._run.announcing_tool(name, arguments, result)

        digested = {"tool": name, "arguments": arguments}
        return await self._run.journal.once(
            "tool", f"tool:{name}", digested, body, announce=announce
        )


def _readable(answer: Any) -> Any:
    """The answer as it can be stored and read again. Raises UnexpectedModelBehavior."""
    answer = _without_surrogates(wire.finite(answer))
    try:
        JSON_CODEC.load(ModelResponse, answer)
    except ValidationError as error:
        raise UnexpectedModelBehavior("its answer has values of the wrong kind") from error
    return answer


def _without_surrogates(value: Any) -> Any:
    """JSON whose texts are UTF-8: an answer is sent back with the next request."""
    match value:
        case str():
            return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
        case dict():
            return {name: _without_surrogates(part) for name, part in value.items()}
        case list():
            return [_without_surrogates(part) for part in value]
    return value


# -- what a request is recognised by ------------------------------------------------------------
def request_identity(
    messages: list[ModelMessage],
    settings: ModelSettings | None,
    parameters: ModelRequestParameters,
) -> dict[str, Any]:
    """What the model was asked, without times, ids of the library's own, and the words in which
    the tools describe themselves: another release may put those better."""
    tools = [*parameters.function_tools, *parameters.output_tools]
    return {
        "messages": [_message(message) for message in messages],
        "tools": {tool.name: _without_words(tool.parameters_json_schema) for tool in tools},
        "settings": {name: value for name, value in (settings or {}).items() if name in _SETTINGS},
    }


def _message(message: ModelMessage) -> dict[str, Any]:
    dumped: dict[str, Any] = JSON_CODEC.dump(ModelMessage, message)
    return {
        "kind": dumped["kind"],
        "instructions": dumped.get("instructions"),
        "parts": [_chosen(part) for part in dumped["parts"]],
    }


def _chosen(part: dict[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in _PART if name in part}


def _without_words(schema: Any) -> Any:
    """A JSON schema without titles and descriptions; a property may be called so and stays."""
    match schema:
        case {"properties": properties}:
            inner = {name: _without_words(value) for name, value in properties.items()}
            rest = {key: value for key, value in schema.items() if key != "properties"}
            return {**_without_words(rest), "properties": inner}
        case dict():
            words = {"title", "description"}
            return {key: _without_words(value) for key, value in schema.items() if key not in words}
        case list():
            return [_without_words(item) for item in schema]
    return schema
