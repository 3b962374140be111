"""The model that is no AI, asked by a real agent; its tools only note what they are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, AgentRunResult, AgentRunResultEvent
from pydantic_ai.messages import ModelResponse, TextPart

from cmbagent import wire
from cmbagent.context import Run
from cmbagent.errors import (
    CodeFailed,
    EngineError,
    FenceUnterminated,
    ModelNeeded,
    NoRecipe,
    ParameterOutOfRange,
)
from cmbagent.journal import Journal
from cmbagent.models.no_model import no_model
from tests.cmbagent.supervision import fenced, start_message

CMB = "Compute the CMB power spectrum for H0 = 70"


class Bench:
    """A run, and an agent with the engineer's tools, whose executions end as `ends` says."""

    def __init__(self, work_dir: Path, task: str, config: dict[str, Any] | None = None) -> None:
        start = start_message(work_dir, task, config=config or {})
        entries: list[wire.Entry] = []
        self._journal = Journal(entries, self._keep)
        link: Any = None  # nothing is told here
        self.run = Run(start, link, self._journal, converse=_nobody)
        self.task = task
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.ends: dict[int, dict[str, Any]] = {}  # by number of the block

    async def _keep(self, entry: wire.Entry) -> None:
        pass

    async def _executed(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((name, arguments))
        number = len(self.calls)
        execution = {
            "number": number,
            "stdout": "",
            "stderr": "",
            "path": f"runs/1/block-{number}.py",
            "exit_code": 0,
            "duration_s": 0.5,
            "ended_by": "exit",
            "signal": None,
            "error": "",
        } | self.ends.get(number, {})
        payload = {"execution": execution, "files": []}

        async def body() -> dict[str, Any]:
            return payload

        await self._journal.once("execution", "execute", arguments, body)
        succeeded = execution["ended_by"] == "exit" and execution["exit_code"] == 0
        told = {name: execution[name] for name in ("path", "exit_code", "ended_by")}
        return told | {"succeeded": succeeded, "stdout": "", "stderr": "", "files": []}

    def agent(self) -> Agent[None, str]:
        agent = Agent(no_model(self.run), name="engineer")

        @agent.tool_plain
        async def run_python(code: str) -> dict[str, Any]:
            return await self._executed("run_python", {"code": code})

        @agent.tool_plain
        async def run_recipe(recipe: str, parameters: dict[str, Any]) -> dict[str, Any]:
            arguments = {"recipe": recipe, "parameters": parameters}
            return await self._executed("run_recipe", arguments)

        return agent

    async def answer(self) -> AgentRunResult[str]:
        return await self.agent().run(self.task)

    async def streamed(self) -> AgentRunResult[str]:
        async with self.agent().run_stream_events(self.task) as events:
            return await _last(events)


async def _last(events: AsyncIterator[Any]) -> AgentRunResult[str]:
    results = [each.result async for each in events if isinstance(each, AgentRunResultEvent)]
    return results[-1]


async def _nobody(run: Run, name: str, task: str) -> str:
    raise AssertionError("no agent is asked for here")


def said(result: AgentRunResult[str]) -> list[str]:
    responses = [each for each in result.all_messages() if isinstance(each, ModelResponse)]
    return [part.content for each in responses for part in each.parts if isinstance(part, TextPart)]


@pytest.mark.parametrize("way", [Bench.answer, Bench.streamed])
async def test_each_block_is_one_call_in_order_and_every_message_says_no_ai(
    work_dir: Path, way: Any
) -> None:
    bench = Bench(work_dir, fenced("print('µ')", "print(2)"))
    result = await way(bench)
    assert bench.calls == [
        ("run_python", {"code": "print('µ')\n"}),
        ("run_python", {"code": "print(2)\n"}),
    ]
    assert said(result) == [
        "No AI is used: running the 2 Python blocks of your task as written.",
        "Done without AI: 2 blocks ran in 1.0 s. Files made: none.",
    ]
    assert result.output == said(result)[-1]


@pytest.mark.parametrize("way", [Bench.answer, Bench.streamed])
async def test_no_tokens_are_counted(work_dir: Path, way: Any) -> None:
    result = await way(Bench(work_dir, fenced("print(1)")))
    usage = result.usage
    assert (usage.input_tokens, usage.output_tokens) == (0, 0)
    models = {each.model_name for each in result.all_messages() if isinstance(each, ModelResponse)}
    assert models == {"no-model"}


@pytest.mark.parametrize("way", [Bench.answer, Bench.streamed])
async def test_a_recipe_is_one_call_with_all_its_parameters(work_dir: Path, way: Any) -> None:
    bench = Bench(work_dir, CMB, {"parameters": {"lmax": 600}, "options": {"spectra": "TT"}})
    result = await way(bench)
    ((name, arguments),) = bench.calls
    assert (name, arguments["recipe"]) == ("run_recipe", "cmb_power_spectrum")
    given = {"H0": 70, "lmax": 600, "spectra": "TT", "ombh2": 0.02237}
    assert arguments["parameters"].items() >= given.items()
    assert "No AI is used: running the recipe “CMB power spectrum” with H0 = 70" in said(result)[0]


@pytest.mark.parametrize("way", [Bench.answer, Bench.streamed])
@pytest.mark.parametrize(
    ("task", "error", "words"),
    [
        ("Write a poem.", NoRecipe, "asks for no known recipe"),
        ("```\nprint(1)\n```", NoRecipe, "no Python block"),
        ("```python\nprint(1)", FenceUnterminated, "never closed"),
        ("CMB power spectrum for H0 = 700", ParameterOutOfRange, "40 to 100 km/s/Mpc"),
    ],
)
async def test_what_it_cannot_do_is_a_typed_error_before_any_call(
    work_dir: Path, way: Any, task: str, error: type[EngineError], words: str
) -> None:
    bench = Bench(work_dir, task)
    with pytest.raises(error, match=words) as caught:
        await way(bench)
    assert caught.value.suggestion
    assert bench.calls == []


async def test_a_failing_block_ends_it_and_is_named(work_dir: Path) -> None:
    bench = Bench(work_dir, fenced("1", "2", "3"))
    bench.ends[2] = {"exit_code": 1, "error": "ZeroDivisionError: division by zero"}
    with pytest.raises(CodeFailed) as caught:
        await bench.answer()
    assert caught.value.message == (
        "Block 2 of 3 (runs/1/block-2.py) ended with exit code 1: "
        "ZeroDivisionError: division by zero"
    )
    assert len(bench.calls) == 2


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ({"exit_code": None, "signal": 6, "ended_by": "signal"}, "SIGABRT"),
        ({"exit_code": None, "ended_by": "time_limit"}, "by the time limit: it ran longer"),
        ({"exit_code": 3}, "ended with exit code 3."),
    ],
)
async def test_how_a_block_ended_is_said(work_dir: Path, end: dict[str, Any], words: str) -> None:
    bench = Bench(work_dir, fenced("1"))
    bench.ends[1] = end
    with pytest.raises(CodeFailed, match=words):
        await bench.answer()


async def test_without_tools_it_says_that_this_needs_a_model(work_dir: Path) -> None:
    bench = Bench(work_dir, "Explain inflation.")
    researcher = Agent(no_model(bench.run), name="researcher")
    with pytest.raises(ModelNeeded) as caught:
        await researcher.run("Explain inflation.")
    assert "CMBAGENT_MODEL" in caught.value.suggestion
    assert "“CMB power spectrum”" in caught.value.suggestion


async def test_parameters_beside_code_are_not_silently_dropped(work_dir: Path) -> None:
    bench = Bench(work_dir, fenced("1"), {"parameters": {"H0": 70}})
    assert "your code does not get them" in said(await bench.answer())[0]
