"""Answers that mean no good, or come from a server that is broken: each is bounded, and ends in
words for a person."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall

from cmbagent import wire
from cmbagent.agents import bounds, deltas
from cmbagent.context import Run
from cmbagent.driver import outcome_of
from cmbagent.errors import RoundsExhausted
from cmbagent.models.choosing import choose_models
from cmbagent.models.failures import ModelAnswerInvalid, OutputTooLong
from tests.cmbagent.in_process import Book, Script, Silent, run_with
from tests.endpoint import Endpoint, server
from tests.endpoint.personalities import Tokens

EXPLAIN = "Explain the horizon problem."


class Calls(Script):
    """Says the arguments of tools as they stand, many times in one answer; then it is done."""

    def __init__(self, tool: str, arguments: str, times: int = 1, answers: int = 1) -> None:
        super().__init__()
        self.call, self.times, self.answers = (tool, arguments), times, answers

    async def stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        self.asked.append(messages)
        if len(self.asked) > self.answers:
            yield "Done."
            return
        for n in range(1, self.times + 1):
            yield {n: DeltaToolCall(*self.call, tool_call_id=f"call-{len(self.asked)}-{n}")}


def told_of(link: Silent) -> list[str]:
    return [m["data"]["content"] for m in link.sent if m["t"] == "event"]


def calls_in(book: Book, tool: str) -> int:
    return sum(f"/tool:{tool}#" in key for key in book.keys)


def asking(endpoint: Endpoint, book: Book, work_dir: Path) -> Run:
    return run_with(book, work_dir=work_dir, models=choose_models(endpoint.environment, {}))


# -- numbers that are none ------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:Failed to extract usage")  # the library's, and right
@pytest.mark.parametrize("tokens", [3_000_000_000, -5])
async def test_an_impossible_count_costs_nobody_knows_what(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    book = Book()
    with Endpoint.running() as endpoint:
        monkeypatch.setattr(server, "Tokens", _counting(tokens))
        await asking(endpoint, book, work_dir).agent("researcher", EXPLAIN)
    (usage,) = [entry["usage"] for entry in book.entries if entry["usage"]]
    assert (usage["input_tokens"], usage["cost_usd"]) == (0, None)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the library's, and right
async def test_an_answer_with_values_of_the_wrong_kind_is_asked_for_anew(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Book()
    with Endpoint.running() as endpoint:
        monkeypatch.setattr(server, "Tokens", _counting(1.5))
        with pytest.raises(ModelAnswerInvalid):
            await asking(endpoint, book, work_dir).agent("researcher", EXPLAIN)
    assert not [entry for entry in book.entries if entry["kind"] == "model"]


def _counting(tokens: float) -> Any:
    return lambda **_: Tokens(prompt=tokens, completion=1)  # type: ignore[arg-type]  # so it is


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
async def test_what_is_no_number_is_for_the_model_to_mend(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    arguments = f'{{"recipe": "cmb_power_spectrum", "parameters": {{"H0": {value}}}}}'
    script, book = Calls("run_recipe", arguments), Book()
    script.speaks_in(monkeypatch)
    assert await run_with(book, work_dir=work_dir).agent("engineer", "Go.") == "Done."
    for entry in book.entries:
        wire.encode(entry)
    assert not calls_in(book, "run_recipe")


async def test_what_is_told_of_a_tool_is_json() -> None:
    run = run_with(Book())
    said = run.announcing_tool("odd", {"a": float("nan"), "b": [float("inf"), 1.0]}, [float("nan")])
    json.dumps(said.events, allow_nan=False)
    assert said.events[0]["data"]["arguments"] == {"a": None, "b": [None, 1.0]}


async def test_after_a_defect_of_ours_a_retry_asks_the_model_anew(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script({"list_files": {}}, {"list_files": {}}, "Done.").speaks_in(monkeypatch)
    defects = iter([False, True])

    def announce(*_: Any) -> Any:
        if next(defects):
            raise LookupError("a defect")
        return real(*_)

    real = Run.announcing_tool
    monkeypatch.setattr(Run, "announcing_tool", announce)
    outcome = await outcome_of(run_with(Book(), work_dir=work_dir, config={"agent": "engineer"}))
    assert outcome["error"]["error_type"] == "internal_error"
    assert outcome["error"]["key"].endswith("/model#1")


# -- too much ---------------------------------------------------------------------------------------
async def test_one_answer_calls_so_many_tools(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, book = Calls("list_recipes", "{}", times=bounds.MAX_CALLS + 3), Book()
    script.speaks_in(monkeypatch)
    assert await run_with(book, work_dir=work_dir).agent("engineer", "Go.") == "Done."
    assert calls_in(book, "list_recipes") == bounds.MAX_CALLS
    assert str(script.asked[1]).count("Not run: one answer may call 32 tools") == 3


async def test_a_conversation_calls_so_many_tools(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Calls("list_files", "{}", times=25, answers=9).speaks_in(monkeypatch)
    book = Book()
    for entries in ([], book.entries):
        again = Book(entries) if entries else book
        run = run_with(again, work_dir=work_dir, config={"maxRounds": 6})
        with pytest.raises(RoundsExhausted, match="called 60 tools") as raised:
            await run.agent("engineer", "Go.")
        assert raised.value.key == "agent:engineer#0/prompt#0"
    assert calls_in(book, "list_files") == 60


async def test_a_long_answer_is_not_followed_to_its_end(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = "0123456789" * 1_000
    Script([piece] * 40).speaks_in(monkeypatch)
    link, book = Silent(), Book()
    run = run_with(book, link, work_dir=work_dir)
    assert await run.agent("engineer", "Go.") == piece * 40
    told = "".join(told_of(link))
    assert told == (piece * 40)[: deltas.MAX_TOLD] + deltas._MORE


async def test_an_answer_without_end_is_none(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltas, "MAX_ANSWER", 50_000)
    Script(["0123456789" * 1_000] * 6).speaks_in(monkeypatch)
    book = Book()
    with pytest.raises(ModelAnswerInvalid):
        await run_with(book, work_dir=work_dir).agent("engineer", "Go.")
    assert book.keys == ["agent:engineer#0/prompt#0"]


async def test_a_slow_supervisor_slows_the_answer(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Silent()
    pending: list[int] = []

    async def flush() -> None:
        pending.append(len(told_of(link)) - sum(pending))

    monkeypatch.setattr(link, "flush", flush)
    Script(["x" * 500] * 20).speaks_in(monkeypatch)
    await run_with(Book(), link, work_dir=work_dir).agent("engineer", "Go.")
    assert sum(pending) >= 19
    assert max(pending) <= 1


async def test_a_report_that_was_cut_is_none(work_dir: Path) -> None:
    book = Book()
    with Endpoint.running() as endpoint:
        endpoint.misbehave("too_long", times=1)
        with pytest.raises(OutputTooLong) as raised:
            await asking(endpoint, book, work_dir).agent("researcher", EXPLAIN)
        assert raised.value.key == "agent:researcher#0/prompt#0", "a retry asks anew"
    messages = [e for entry in book.entries for e in entry["events"]]
    assert "horizon problem" in str(messages[0]["data"]["content"]), "the words are in the log"
