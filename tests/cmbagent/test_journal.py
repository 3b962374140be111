"""What a run remembers: keys, replay, and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from cmbagent import wire
from cmbagent.context import Run
from cmbagent.errors import CodeFailed, JournalMismatch, PayloadTooLarge
from cmbagent.journal import Announcement, Journal, digest_of
from tests.cmbagent.in_process import Book, Silent, run_with


# -- keys ---------------------------------------------------------------------------------------
async def test_calls_of_one_name_are_told_apart_by_their_order() -> None:
    book = Book()
    assert [await book.once("a", n) for n in (1, 2)] == [1, 2]
    await book.once("b", 3)
    assert book.keys == ["a#0", "a#1", "b#0"]


async def test_calls_inside_a_call_have_a_scope_of_their_own() -> None:
    book = Book()

    async def outer() -> str:
        await book.once("inner", 1)
        return "done"

    for _ in range(2):
        await book.journal.once("agent", "outer", None, outer)
    await book.once("inner", 2)
    assert book.keys == ["outer#0/inner#0", "outer#0", "outer#1/inner#0", "outer#1", "inner#0"]


async def test_an_entry_is_kept_before_the_next_call_begins() -> None:
    order: list[str] = []

    async def keep(entry: wire.Entry) -> None:
        await asyncio.sleep(0.01)
        order.append(f"kept {entry['key']}")

    journal = Journal([], keep)
    for name in ("a", "b"):

        async def body(name: str = name) -> None:
            order.append(f"began {name}")

        await journal.once("tool", name, None, body)
    assert order == ["began a", "kept a#0", "began b", "kept b#0"]


def spent(cost_usd: float) -> wire.Usage:
    return {
        "agent": "engineer",
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 0,
        "cost_usd": cost_usd,
    }


async def test_what_is_forgotten_was_paid() -> None:
    async def keep(_: wire.Entry) -> None:
        await asyncio.sleep(0)

    journal = Journal([], keep, [spent(1.0)])
    said = Announcement(usage=spent(2.0))
    await journal.once("model", "m", None, Book().returning("x"), announce=lambda _: said)
    assert [usage["cost_usd"] for usage in journal.usages()] == [1.0, 2.0]


# -- replay -------------------------------------------------------------------------------------
async def test_a_finished_call_is_not_made_again() -> None:
    first = Book()
    await first.once("a", {"x": [1, None, "µ"]})
    second = Book(first.entries)
    assert await second.once("a", "another") == {"x": [1, None, "µ"]}
    assert await second.once("a", "new") == "new"
    assert second.calls == ["new"]
    assert second.keys == ["a#1"]


async def test_a_finished_call_spares_the_calls_inside_it() -> None:
    first = Book()

    async def outer() -> str:
        return str(await first.once("inner", "x"))

    await first.journal.once("agent", "outer", None, outer)
    only_outer = [entry for entry in first.entries if entry["key"] == "outer#0"]
    second = Book(only_outer)
    assert await second.journal.once("agent", "outer", None, second.returning("never")) == "x"
    assert second.calls == []


async def test_other_arguments_are_a_mismatch_that_names_the_key() -> None:
    first = Book()
    await first.once("a", 1, {"code": "print(1)"})
    with pytest.raises(JournalMismatch) as raised:
        await Book(first.entries).once("a", 2, {"code": "print(2)"})
    assert raised.value.failure()["key"] == "a#0"
    assert raised.value.failure()["retryable"]


async def test_the_order_of_keys_does_not_change_a_digest() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


async def test_what_raises_is_not_remembered() -> None:
    book = Book()

    async def failing() -> None:
        raise CodeFailed("It failed.", "Mend it.")

    with pytest.raises(CodeFailed):
        await book.journal.once("tool", "a", None, failing)
    assert book.entries == []
    assert await Book(book.entries).once("a", "now it works") == "now it works"


async def test_nothing_that_is_cut_off_is_remembered() -> None:
    book = Book()
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(book.journal.once("tool", "a", None, endless))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert book.entries == []
    assert await book.once("b", 1) == 1  # and nothing counts as under way


async def test_a_result_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_PAYLOAD_BYTES", 1000)
    book = Book()
    with pytest.raises(PayloadTooLarge, match="a#0"):
        await book.once("a", "x" * 1000)
    assert book.entries == []
    assert await book.once("a", "x" * 900) == "x" * 900


# -- what runs at the same time -----------------------------------------------------------------
async def test_two_unnamed_calls_at_once_are_refused() -> None:
    book = Book()

    async def slow() -> None:
        await asyncio.sleep(0.01)

    with pytest.raises(RuntimeError, match="branch"):
        await asyncio.gather(
            book.journal.once("tool", "a", None, slow), book.journal.once("tool", "b", None, slow)
        )


async def test_named_branches_run_at_once_and_replay_whoever_was_first() -> None:
    async def steps(run: Run, book: Book, name: str, pauses: tuple[float, float]) -> str:
        for number, pause in enumerate(pauses):
            await asyncio.sleep(pause)
            await book.once("work", f"{name}{number}")
        return name

    async def both(book: Book, slow: float) -> list[str]:
        run = run_with(book)
        names: list[str] = await asyncio.gather(
            run.branch("left", steps, book, "left", (0.0, slow)),
            run.branch("right", steps, book, "right", (0.005, 0.0)),
        )
        return names

    first = Book()
    assert await both(first, 0.05) == ["left", "right"]
    assert set(first.keys) == {
        *("branch:left#0", "branch:left#0/work#0", "branch:left#0/work#1"),
        *("branch:right#0", "branch:right#0/work#0", "branch:right#0/work#1"),
    }
    assert first.keys.index("branch:right#0") < first.keys.index("branch:left#0")
    for count in range(len(first.entries) + 1):
        again = Book(first.entries[:count])
        assert await both(again, 0.0) == ["left", "right"]
        assert set(again.keys) == set(first.keys) - set(first.keys[:count])


# -- steps --------------------------------------------------------------------------------------
async def compute(run: Run, value: int) -> str:
    async def body() -> int:
        return value * value

    return str(await run.tool("square", {}, body))


async def two_steps(run: Run) -> list[str]:
    return [str(await run.step("Square", compute, value)) for value in (3, 4)]


async def test_a_step_does_not_replay_the_answer_of_another() -> None:
    """With flat scopes both steps have one call `square#0`, and 9 is the answer of both."""
    first = Book()
    assert await two_steps(run_with(first)) == ["9", "16"]
    assert await two_steps(run_with(Book(first.entries))) == ["9", "16"]
    inner_only = [entry for entry in first.entries if entry["kind"] == "tool"]
    assert await two_steps(run_with(Book(inner_only))) == ["9", "16"]


async def test_the_end_of_a_step_travels_with_its_entry_and_is_told_once() -> None:
    first, link = Book(), Silent()
    await two_steps(run_with(first, link))
    assert [message["event_type"] for message in link.sent if message["t"] == "event"] == [
        "step_started",
        "step_started",
    ]
    ends = [event for entry in first.entries for event in entry["events"]]
    assert [(event["event_type"], event["step"]) for event in ends] == [
        ("tool_call", "1"),
        ("step_completed", "1"),
        ("tool_call", "2"),
        ("step_completed", "2"),
    ]
    again, silent = Book(first.entries), Silent()
    await two_steps(run_with(again, silent))
    assert (again.entries, silent.sent) == ([], [])


async def test_a_step_that_fails_says_so() -> None:
    async def failing(run: Run) -> None:
        raise CodeFailed("It failed.", "Mend it.")

    link = Silent()
    with pytest.raises(CodeFailed):
        await run_with(Book(), link).step("Fail", failing)
    (_, failed) = [message for message in link.sent if message["t"] == "event"]
    assert failed["event_type"] == "step_failed"
    assert failed["data"] == {"index": 1, "title": "Fail", "error": "It failed."}


async def test_a_message_is_said_once() -> None:
    first = Book()
    await run_with(first).say("cmbagent", "Hello")
    (event,) = first.entries[0]["events"]
    assert event["data"] == {"agent": "cmbagent", "role": "assistant", "content": "Hello"}
    again = Book(first.entries)
    await run_with(again).say("cmbagent", "Hello, put better")
    assert again.entries == []


# -- a halt -------------------------------------------------------------------------------------
async def test_a_halted_journal_begins_nothing_and_lets_a_model_call_reach_its_entry() -> None:
    book = Book()
    answered = asyncio.Event()

    async def model() -> str:
        await answered.wait()
        return "an answer"

    async def workflow() -> None:
        await book.journal.once("model", "model", None, model)
        await book.once("tool", "never")

    work = asyncio.create_task(workflow())
    await asyncio.sleep(0)
    halting = asyncio.create_task(book.journal.halt())
    await asyncio.sleep(0.01)
    assert not halting.done()
    answered.set()
    await asyncio.wait_for(halting, 5)
    await asyncio.sleep(0.01)
    assert (book.keys, book.calls) == (["model#0"], [])
    work.cancel()
