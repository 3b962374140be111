"""Agents inside one process: what is an entry, what is told, what bounds and fails them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import ModelRequest

from cmbagent import agents
from cmbagent.agents import prompt as prompts
from cmbagent.agents import rehearse
from cmbagent.agents.deltas import Deltas
from cmbagent.agents.prompt import FOLDER, parse_prompt
from cmbagent.agents.toolbox import TOOLS
from cmbagent.errors import (
    AgentUnknown,
    AttemptsExhausted,
    JournalMismatch,
    NobodyToAsk,
    RoundsExhausted,
    SandboxUnavailable,
)
from cmbagent.execution import Block
from tests.cmbagent.in_process import SPEC, Book, Script, Silent, run_with
from tests.cmbagent.supervision import sandbox

TALK: tuple[Any, ...] = (
    ["I look ", "first."],
    {"list_files": {}, "install": {"packages": ["healpy"]}},
    {"read_file": {"path": "notes.txt"}},
    "Done.",
)


def kinds_of(link: Silent) -> list[str]:
    return [message["event_type"] for message in link.sent if message["t"] == "event"]


def instructions_of(script: Script) -> list[str]:
    """Of each request."""
    last = [messages[-1] for messages in script.asked]
    return [m.instructions or "" for m in last if isinstance(m, ModelRequest)]


# -- entries ------------------------------------------------------------------------------------
async def test_each_model_call_and_each_tool_call_is_an_entry(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script(*TALK[1:]).speaks_in(monkeypatch)
    book = Book()
    assert await run_with(book, work_dir=work_dir).agent("engineer", "Look.") == "Done."
    assert [(entry["key"], entry["kind"]) for entry in book.entries] == [
        ("agent:engineer#0/prompt#0", "prompt"),
        ("agent:engineer#0/model#0", "model"),
        ("agent:engineer#0/tool:list_files#0", "tool"),
        ("agent:engineer#0/tool:install#0", "tool"),
        ("agent:engineer#0/model#1", "model"),
        ("agent:engineer#0/tool:read_file#0", "tool"),
        ("agent:engineer#0/model#2", "model"),
        ("agent:engineer#0", "agent"),
    ]


async def test_whatever_was_finished_no_finished_call_is_made_again(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Book()
    Script(*TALK[1:]).speaks_in(monkeypatch)
    await run_with(first, work_dir=work_dir).agent("engineer", "Look.")
    for count in range(len(first.entries) + 1):
        script, again = Script(*TALK[1:]).speaks_in(monkeypatch), Book(first.entries[:count])
        run = run_with(again, work_dir=work_dir)
        assert await run.agent("engineer", "Look.") == "Done."
        assert again.keys == first.keys[count:]
        assert len(script.asked) == sum("model" in key for key in again.keys)


async def test_what_is_announced_travels_with_its_entry(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script({"list_files": {}}, "Done.").speaks_in(monkeypatch)
    book = Book()
    await run_with(book, work_dir=work_dir).agent("engineer", "Look.")
    told = {entry["key"].rpartition("/")[2]: entry["events"] for entry in book.entries}
    assert [event["event_type"] for event in told["model#0"]] == ["cost_update"]
    assert [event["event_type"] for event in told["model#1"]] == ["agent_message", "cost_update"]
    (call,) = told["tool:list_files#0"]
    assert call["data"]["tool_name"] == "list_files"
    assert json.loads(call["data"]["result"]) == {"files": [], "not_shown": 0}
    said, cost = (event["data"] for event in told["model#1"])
    assert said == {"agent": "engineer", "role": "assistant", "content": "Done."}
    spent = [usage["cost_usd"] for entry in book.entries if (usage := entry["usage"])]
    assert cost["total_cost_usd"] == pytest.approx(sum(spent))  # type: ignore[arg-type]  # known
    assert all(spent)


async def test_an_unknown_cost_stays_unknown(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script("Done.").speaks_in(monkeypatch)
    unpriced = {**SPEC, "input_price": None, "output_price": None}
    book = Book()
    await run_with(book, work_dir=work_dir, models={"default": unpriced}).agent("engineer", "Go.")
    cost = book.entries[1]["events"][1]["data"]
    assert (cost["cost_usd"], cost["total_cost_usd"]) == (None, None)


async def test_another_task_is_a_mismatch_and_so_is_another_history(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Book()
    Script({"list_files": {}}, "Done.").speaks_in(monkeypatch)
    await run_with(first, work_dir=work_dir).agent("engineer", "Look.")
    with pytest.raises(JournalMismatch):
        await run_with(Book(first.entries[:2]), work_dir=work_dir).agent("engineer", "Other.")
    changed = json.loads(json.dumps(first.entries[:4]))
    changed[2]["payload"]["result"] = {"files": [{"path": "a"}], "not_shown": 0}
    with pytest.raises(JournalMismatch, match="model#1"):
        await run_with(Book(changed), work_dir=work_dir).agent("engineer", "Look.")


async def test_garbage_for_a_tool_is_mended(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script(
        {"read_file": {"path": 3}}, {"no_such_tool": {}}, {"run_recipe": {"recipe": "x"}}, "Done."
    ).speaks_in(monkeypatch)
    assert await run_with(Book(), work_dir=work_dir).agent("engineer", "Look.") == "Done."


# -- what is seen while a model writes ----------------------------------------------------------
async def test_deltas_come_live_and_are_not_repeated(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script(["I ", "am ", "done."]).speaks_in(monkeypatch)
    first, link = Book(), Silent()
    await run_with(first, link, work_dir=work_dir).agent("engineer", "Go.")
    deltas = [message for message in link.sent if message["t"] == "event"]
    assert "".join(delta["data"]["content"] for delta in deltas) == "I am done."
    again = Silent()
    run = run_with(Book(first.entries[:2]), again, work_dir=work_dir)
    assert await run.agent("engineer", "Go.") == "I am done."
    assert kinds_of(again) == []


async def test_pieces_are_gathered_until_they_are_worth_an_event() -> None:
    told: list[str] = []
    deltas = Deltas(told.append, Silent().flush)
    for _ in range(100):
        deltas._add("0123456789")
    assert [len(text) for text in told] == [400, 400]
    await asyncio.sleep(0.15)
    assert [len(text) for text in told] == [400, 400, 200]
    deltas._add("x" * 10_000)
    assert max(map(len, told)) <= 4_000
    assert len("".join(told)) == 11_000


# -- prompts ------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_prompts_name_themselves_and_tools_that_exist(path: Path) -> None:
    prompt = parse_prompt(path.read_text(encoding="utf-8"))
    assert prompt.name == path.stem
    assert set(prompt.tools) <= set(TOOLS)
    assert prompt.description
    assert prompt.version >= 1
    assert len(prompt.instructions) > 1000


async def test_a_run_keeps_its_prompt_and_its_tools(
    work_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Book()
    old = Script({"list_files": {}}, "Done.").speaks_in(monkeypatch)
    await run_with(first, work_dir=work_dir).agent("engineer", "Look.")
    text = (FOLDER / "engineer.md").read_text(encoding="utf-8")
    (tmp_path / "engineer.md").write_text(text.replace('"list_files", ', "") + "\nBe brief.\n")
    monkeypatch.setattr(prompts, "FOLDER", tmp_path)
    new = Script({"list_files": {}}, "Done.").speaks_in(monkeypatch)
    again = run_with(Book(first.entries[:3]), work_dir=work_dir)
    assert await again.agent("engineer", "Look.") == "Done."
    assert instructions_of(new) == instructions_of(old)[1:]
    await run_with(Book(), work_dir=work_dir).agent("engineer", "Look.")
    assert "Be brief." in instructions_of(new)[-1]


@pytest.mark.parametrize("name", ["nobody", "../prompts/engineer", ""])
async def test_an_agent_that_is_not_there_is_named(name: str, work_dir: Path) -> None:
    with pytest.raises(AgentUnknown, match="no agent") as raised:
        await run_with(Book(), work_dir=work_dir).agent(name, "Go.")
    assert "engineer, researcher" in raised.value.suggestion


# -- bounds -------------------------------------------------------------------------------------
async def test_the_last_round_is_told_and_is_the_last(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(*[{"list_files": {}}] * 9).speaks_in(monkeypatch)
    book = Book()
    run = run_with(book, work_dir=work_dir, config={"maxRounds": 3})
    with pytest.raises(RoundsExhausted, match="3 times") as raised:
        await run.agent("engineer", "Look.")
    assert ["last round" in text for text in instructions_of(script)] == [False, False, True]
    assert "maxRounds" in raised.value.suggestion
    assert [key.rpartition("/")[2] for key in book.keys].count("tool:list_files#1") == 1
    assert not [key for key in book.keys if "list_files#2" in key]
    again = run_with(Book(book.entries), work_dir=work_dir, config={"maxRounds": 3})
    with pytest.raises(RoundsExhausted):  # a replay comes to the same end without a request
        await again.agent("engineer", "Look.")
    assert len(script.asked) == 3


async def test_who_answers_in_the_last_round_is_heard(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script({"list_files": {}}, "Unfinished, but this is known.").speaks_in(monkeypatch)
    run = run_with(Book(), work_dir=work_dir, config={"maxRounds": 2})
    assert await run.agent("engineer", "Look.") == "Unfinished, but this is known."


async def test_code_that_fails_as_often_as_it_may_ends_the_agent(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = {"run_python": {"code": "open('kept.txt', 'w').write('1')"}}
    fails = {"run_python": {"code": "1 / 0"}}
    script = Script(works, fails, fails, fails).speaks_in(monkeypatch)
    book = Book()
    for entries in ([], book.entries):
        run = run_with(Book(entries) if entries else book, work_dir=work_dir, config=TWO_FAILURES)
        with pytest.raises(AttemptsExhausted, match="2 times") as raised:
            await run.agent("engineer", "Try.")
        assert "runs/1/block-3.py, ended with exit code 1: ZeroDivisionError" in str(raised.value)
        assert raised.value.key == "agent:engineer#0/prompt#0", "a retry begins the agent anew"
    assert len(script.asked) == 3
    assert (work_dir / "kept.txt").read_text() == "1"


TWO_FAILURES = {"maxAttempts": 2}


# -- what ends the run --------------------------------------------------------------------------
async def test_an_error_of_the_engine_passes_the_library_unchanged(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script({"run_python": {"code": "print(1)"}}).speaks_in(monkeypatch)
    none = {**sandbox(), "level": None, "remedy": "Install bubblewrap."}
    book = Book()
    with pytest.raises(SandboxUnavailable) as raised:
        await run_with(book, work_dir=work_dir, sandbox=none).agent("engineer", "Go.")
    assert raised.value.suggestion == "Install bubblewrap."
    assert book.keys[-1].endswith("model#0"), "the call that could not be made is not finished"


async def test_where_a_person_must_decide_nothing_runs_until_one_did(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script({"run_python": {"code": "print(1)"}}, "Done.").speaks_in(monkeypatch)
    run = run_with(Book(), work_dir=work_dir, code_approval=True)
    with pytest.raises(NobodyToAsk) as raised:
        await run.agent("engineer", "Go.")
    assert raised.value.question["context"]["code"] == "print(1)"
    assert not (work_dir / "runs").exists()


async def test_what_a_person_approved_runs_where_nothing_confines_it(work_dir: Path) -> None:
    asked = []

    async def approve(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"resolution": "approve", "feedback": "", "modifications": None}

    none = {**sandbox(), "level": None}
    run = run_with(Book(), work_dir=work_dir, ask=approve, sandbox=none, code_approval=True)
    execution = await run.execute(Block("import os; print(os.listdir('/tmp') != [])"))
    assert (execution.succeeded, execution.stdout) == (True, "True\n"), execution.stderr
    assert "without any confinement" in asked[0]["message"]


# -- the rehearsal ------------------------------------------------------------------------------
async def test_a_rehearsal_needs_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    before = {task for task in asyncio.all_tasks() if not task.done()}
    await rehearse()
    assert list(folder.iterdir()) == []
    assert {task for task in asyncio.all_tasks() if not task.done()} == before
    assert agents.rehearse is rehearse
