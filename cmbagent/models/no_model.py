"""The model that is no AI: runs the Python of a task, or a recipe it asks for, and says so.

It stands behind the same interface as any model and uses the same tools, so a run without a model
walks the same way as one with. What it does follows from the messages alone: the calls it plans
come from the task, and how far it got from the answers it was sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic_ai import ModelMessage, ModelResponse, RunContext, TextPart, ToolCallPart
from pydantic_ai.messages import ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.function import (
    AgentInfo,
    DeltaToolCall,
    FunctionModel,
    FunctionStreamedResponse,
)
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from cmbagent import recipes
from cmbagent.blocks import has_fence, python_blocks
from cmbagent.context import Run
from cmbagent.errors import CodeFailed, ModelNeeded, NoRecipe
from cmbagent.execution import Execution
from cmbagent.models.choosing import NO_MODEL
from cmbagent.report import about_work

_TOOLS = {"run_python", "run_recipe"}  # an agent without them talks, which needs a model


def no_model(run: Run) -> FunctionModel:
    """Raises, when it is asked: NoRecipe, FenceUnterminated, ParameterUnknown and the like for a
    task it cannot do, CodeFailed when a block failed, ModelNeeded for an agent that only talks."""
    answering = _Answering(run)
    return _Unmetered(answering.whole, stream_function=answering.streamed, model_name=NO_MODEL)


@dataclass(frozen=True)
class _Plan:
    """All tool calls (name, arguments) that a task needs, and what is said before the first."""

    words: str
    calls: list[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class _Answer:
    words: str = ""
    call: ToolCallPart | None = None


class _Answering:
    def __init__(self, run: Run) -> None:
        self._run = run

    async def whole(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        answer = self._answer(messages, info)
        text = [TextPart(answer.words)] if answer.words else []
        call = [answer.call] if answer.call else []
        return ModelResponse(parts=[*text, *call])

    async def streamed(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        answer = self._answer(messages, info)
        if answer.words:
            yield answer.words
        if call := answer.call:
            arguments = call.args_as_json_str()
            yield {0: DeltaToolCall(call.tool_name, arguments, tool_call_id=call.tool_call_id)}

    def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> _Answer:
        if not _TOOLS & {tool.name for tool in info.function_tools}:
            raise _model_needed()
        task, results = _conversation(messages)
        count = len(python_blocks(task)) or 1  # a recipe is one
        for number, result in enumerate(results, start=1):
            self._check(result, number, count)
        if len(results) == count:
            return _Answer(self._summary(results))
        plan = _plan(self._run, task)
        name, arguments = plan.calls[len(results)]
        call = ToolCallPart(name, arguments, tool_call_id=f"{NO_MODEL}-{len(results) + 1}")
        return _Answer("" if results else plan.words, call)

    def _check(self, result: ToolReturnPart, number: int, count: int) -> None:
        """Raises CodeFailed, so that the blocks after it do not run; a retry runs it again."""
        content, block = _content(result), f"Block {number} of {count}"
        if content.get("succeeded"):
            return
        if "path" in content:
            execution = self._execution(content["path"])
            failed = CodeFailed(f"{block} ({execution.path}) {execution.ending}", execution.remedy)
        else:
            failed = CodeFailed(f"{block} was not run: {result.content}", "Change the task.")
        failed.key = self._run.journal.last_key("tool")
        raise failed

    def _execution(self, path: str) -> Execution:
        return next(each for each in self._run.executions if each.path == path)

    def _summary(self, results: list[ToolReturnPart]) -> str:
        done = [self._execution(_content(result)["path"]) for result in results]
        return f"Done without AI: {about_work(done, self._run.files)}"


# -- what the task asks for ---------------------------------------------------------------------
def _conversation(messages: list[ModelMessage]) -> tuple[str, list[ToolReturnPart]]:
    """The last task of a person, and what the tools returned since."""
    task = ""
    results: list[ToolReturnPart] = []
    for part in _requested(messages):
        if isinstance(part, UserPromptPart):
            task, results = _text(part), []
        elif isinstance(part, ToolReturnPart):
            results.append(part)
    return task, results


def _requested(messages: list[ModelMessage]) -> Iterator[Any]:
    for message in messages:
        if isinstance(message, ModelRequest):
            yield from message.parts


def _content(result: ToolReturnPart) -> dict[str, Any]:
    return result.content if isinstance(result.content, dict) else {}


def _text(prompt: UserPromptPart) -> str:
    if isinstance(prompt.content, str):
        return prompt.content
    return "\n".join(part for part in prompt.content if isinstance(part, str))


def _plan(run: Run, task: str) -> _Plan:
    if codes := python_blocks(task):
        calls = [("run_python", {"code": code}) for code in codes]
        return _Plan(_about_blocks(len(codes), run.config), calls)
    asked = recipes.asked_by(task)
    if not asked:
        raise _no_recipe(task)
    recipe, *others = asked
    configured = run.config.get("parameters", {}) | run.config.get("options", {})
    files = recipes.data_files(run.work_dir) if recipe.inputs else []
    parameters = recipes.read_parameters(recipe, task, configured, files=files)
    call = ("run_recipe", {"recipe": recipe.id, "parameters": parameters})
    return _Plan(_about_recipe(recipe, parameters, others), [call])


# -- what is said -------------------------------------------------------------------------------
def _about_blocks(count: int, config: dict[str, Any]) -> str:
    number = "the Python block" if count == 1 else f"the {count} Python blocks"
    text = f"No AI is used: running {number} of your task as written."
    if config.get("parameters") or config.get("options"):
        text += " The parameters of the configuration are for recipes; your code does not get them."
    return text


def _about_recipe(
    recipe: recipes.Recipe, parameters: dict[str, Any], others: list[recipes.Recipe]
) -> str:
    text = f"No AI is used: running the recipe “{recipe.title}” with {recipe.shown(parameters)}."
    if others:
        titles = " and ".join(f"“{other.title}”" for other in others)
        text += f" Your task speaks of {titles} too: ask for that in a task of its own."
    return text


def _no_recipe(task: str) -> NoRecipe:
    offers = "; ".join(
        f"the recipe “{recipe.title}”, asked for by, say, “{recipe.examples[0]}”"
        for recipe in recipes.known()
    )
    hint = " A fence without a language is not run: begin it with ```python." * has_fence(task)
    return NoRecipe(
        "No model is connected, and the task holds no Python block and asks for no known recipe.",
        f"What can be run: Python between a line ```python and a line ```; {offers}.{hint} "
        f"For anything else, connect a model: {_CONNECTING}.",
    )


_CONNECTING = (
    "the operator sets CMBAGENT_MODEL with OPENAI_API_KEY or, for a model of one's own, "
    "OPENAI_BASE_URL"
)


def _model_needed() -> ModelNeeded:
    titles = ", ".join(f"“{recipe.title}”" for recipe in recipes.known())
    return ModelNeeded(
        "Writing and reasoning need a model, and none is connected. Nothing was made up instead.",
        f"Connect one: {_CONNECTING}. Without a model the engineer runs the Python blocks of a "
        f"task, and these recipes: {titles}.",
    )


# -- what it costs ------------------------------------------------------------------------------
@dataclass
class _UnmeteredStream(FunctionStreamedResponse):
    @property
    def usage(self) -> RequestUsage:
        return RequestUsage()


class _Unmetered(FunctionModel):
    """A function model estimates tokens, as for a test; here none is used."""

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        response = await super().request(messages, model_settings, model_request_parameters)
        response.usage = RequestUsage()
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncIterator[StreamedResponse]:
        asked = (messages, model_settings, model_request_parameters, run_context)
        async with super().request_stream(*asked) as stream:
            assert isinstance(stream, FunctionStreamedResponse)
            parameters = stream.model_request_parameters
            yield _UnmeteredStream(parameters, _model_name=NO_MODEL, _iter=stream._iter)
