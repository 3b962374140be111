"""A halt: executed code is stopped now, model calls in flight go on, nothing else begins."""

from __future__ import annotations

import asyncio
from typing import Any

from cmbagent.context import Run
from tests.cmbagent.in_process import Book, run_with


class Beside:
    """A model call in one branch, an execution in another."""

    def __init__(self) -> None:
        self.book = Book()
        self.answered, self.printed = asyncio.Event(), asyncio.Event()
        self.said: list[str] = []

    async def workflow(self) -> None:
        run = run_with(self.book)
        await asyncio.gather(run.branch("talk", self.talk), run.branch("work", self.work))

    async def talk(self, run: Run) -> None:
        async def answer() -> str:
            await self.answered.wait()
            return "an answer"

        await run.journal.once("model", "model", None, answer)
        self.said.append("went on")

    async def work(self, run: Run) -> None:
        async def code() -> dict[str, Any]:
            try:
                self.said.append("runs")
                await self.printed.wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)  # its tree is killed and waited for
                self.said.append("stopped")
                raise
            return {}

        await run.journal.once("execution", "execute", None, code)
        self.said.append("went on")
        await self.book.once("tool", "never")


async def test_code_is_stopped_now_and_the_model_call_beside_it_reaches_its_entry() -> None:
    beside = Beside()
    work = asyncio.create_task(beside.workflow())
    await asyncio.sleep(0.01)
    halting = asyncio.create_task(beside.book.journal.halt())
    await asyncio.sleep(0.05)
    assert beside.said == ["runs", "stopped"]
    assert (work.done(), halting.done()) == (False, False), "the model was not heard yet"
    beside.answered.set()
    await asyncio.wait_for(halting, 5)
    await asyncio.sleep(0.01)
    assert beside.book.keys[0] == "branch:talk#0/model#0"
    assert (beside.book.calls, work.done()) == ([], False)
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()


async def test_a_halt_returns_when_the_code_is_stopped() -> None:
    """Whoever cancels the workflow then does not disturb the killing."""
    beside = Beside()
    beside.answered.set()
    work = asyncio.create_task(beside.workflow())
    await asyncio.sleep(0.01)
    await asyncio.wait_for(beside.book.journal.halt(), 5)
    assert beside.said[-1] == "stopped"
    work.cancel()
    await asyncio.wait([work])


async def test_who_is_cancelled_without_a_halt_stops_its_code_too() -> None:
    beside = Beside()
    work = asyncio.create_task(beside.workflow())
    await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.wait([work])
    await asyncio.sleep(0.05)  # a gather does not wait for the others
    assert (work.cancelled(), beside.said) == (True, ["runs", "stopped"])
