"""Which index a step has: its own for good, whoever begins it again and whatever ran beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cmbagent import wire
from cmbagent.context import Run
from cmbagent.errors import CodeFailed
from tests.cmbagent.in_process import Book, Silent, run_with

Workflow = Callable[[Run], Awaitable[Any]]


async def compute(run: Run, value: int, pause: float = 0.0) -> str:
    async def body() -> int:
        await asyncio.sleep(pause)
        return value * value

    return str(await run.tool("square", {"value": value}, body))


async def one_in_a_branch(run: Run) -> list[str]:
    async def branch(run: Run) -> str:
        return str(await run.step("Inner", compute, 2))

    return [await run.branch("part", branch), await run.step("Last", compute, 3)]


async def one_in_another(run: Run) -> list[str]:
    async def outer(run: Run) -> str:
        return str(await run.step("Inner", compute, 2)) + await compute(run, 5)

    return [await run.step("Outer", outer), await run.step("Last", compute, 3)]


async def branches(run: Run, pauses: dict[str, float]) -> list[str]:
    async def branch(run: Run, pause: float) -> list[str]:
        await asyncio.sleep(pause)  # who arrives first is another one each time
        return [await run.step(title, compute, n, pause) for n, title in enumerate("abc", start=2)]

    parts = await asyncio.gather(*(run.branch(name, branch, pauses[name]) for name in pauses))
    return [*map(str, parts), await run.step("Last", compute, 9)]


async def left_first(run: Run) -> list[str]:
    return await branches(run, {"left": 0.0, "right": 0.002})


async def right_first(run: Run) -> list[str]:
    return await branches(run, {"left": 0.003, "right": 0.0})


def told(link: Silent, entries: list[wire.Entry]) -> dict[int, set[str]]:
    """Titles by index, of all that was told of steps."""
    events: list[Any] = [message for message in link.sent if message["t"] == "event"]
    events += [event for entry in entries for event in entry["events"]]
    titles: dict[int, set[str]] = {}
    for event in events:
        if event["event_type"].startswith("step_"):
            assert event["step"] == str(event["data"]["index"])
            titles.setdefault(event["data"]["index"], set()).add(event["data"]["title"])
    return titles


def ends(entries: list[wire.Entry]) -> dict[str, int]:
    """The indexes under which steps ended, by key."""
    steps = [entry for entry in entries if entry["kind"] == "step"]
    return {entry["key"]: entry["events"][0]["data"]["index"] for entry in steps}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (one_in_a_branch, one_in_a_branch),
        (one_in_another, one_in_another),
        (left_first, right_first),
        (right_first, left_first),
    ],
)
async def test_a_step_keeps_its_index_whatever_was_finished(
    first: Workflow, second: Workflow
) -> None:
    """Killed after each entry, and each entry's acknowledgement lost once more."""
    whole = Book()
    result = await first(run_with(whole))
    for count in range(len(whole.entries) + 1):
        kept = whole.entries[:count]
        allotted = {e["key"].removesuffix("/index#0"): e["payload"] for e in kept if is_index(e)}
        again, link = Book(kept), Silent()
        assert await second(run_with(again, link)) == result
        ended = ends([*kept, *again.entries])
        assert ended.items() >= allotted.items(), "begun before the kill"
        assert sorted(ended.values()) == list(range(1, len(ended) + 1)), "each index once"
        assert all(len(titles) == 1 for titles in told(link, again.entries).values())
        assert ended.keys() == ends(whole.entries).keys()


def is_index(entry: wire.Entry) -> bool:
    return entry["kind"] == "index"


async def test_an_index_is_kept_before_its_step_is_told_of() -> None:
    """What is told before may be stored though the entry is not: two steps then had one index."""
    link, order = Silent(), []

    class Watched(Book):
        async def _keep(self, entry: wire.Entry) -> None:
            order.append((entry["key"], len(link.sent)))
            await super()._keep(entry)

    await run_with(Watched(), link).step("Go", compute, 2)
    assert order[0] == ("step:Go#0/index#0", 0)


async def test_a_step_that_failed_begins_again_under_its_index() -> None:
    async def failing(run: Run) -> None:
        raise CodeFailed("It failed.", "Mend it.")

    async def one_fails(run: Run) -> None:
        await run.step("Go", compute, 2)
        await run.step("Fail", failing)

    book = Book()
    for entries in ([], book.entries):
        link = Silent()
        with pytest.raises(CodeFailed):
            await one_fails(run_with(Book(entries) if entries else book, link))
        events: list[Any] = link.sent[-2:]
        assert [event["event_type"] for event in events] == ["step_started", "step_failed"]
        assert {event["data"]["index"] for event in events} == {2}
