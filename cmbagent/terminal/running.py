"""Drives one task on the terminal: attempts from its journal until an outcome."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cmbagent import wire
from cmbagent.agents import converse
from cmbagent.context import Run
from cmbagent.driver import outcome_of
from cmbagent.journal import Journal
from cmbagent.models.choosing import DEFAULT, agent_of
from cmbagent.perseverance import (
    gives_up_after_crash,
    gives_up_after_postponement,
    seconds_to_wait,
)
from cmbagent.report import total_cost
from cmbagent.terminal.asking import Asker
from cmbagent.terminal.collecting import Collector, told
from cmbagent.terminal.console import Console
from cmbagent.terminal.journal_file import JournalFile, JournalUnwritable
from cmbagent.terminal.lines import LineNumbers
from cmbagent.terminal.screen import Screen
from cmbagent.terminal.words import costs_by_model

COMPLETED, FAILED, QUESTION, POSTPONED = 0, 1, 3, 75  # 75: EX_TEMPFAIL of sysexits.h


@dataclass
class Link:
    """What a supervisor is to an engine: it shows, stores and collects, here in one process."""

    screen: Screen
    console: Console
    journal: JournalFile
    collector: Collector
    log: Path
    lines: LineNumbers = field(default_factory=LineNumbers)

    def hear(self, stream: str, text: str) -> None:
        for output in self.lines.numbered(stream, text):
            self.screen.show("output", output)

    def send(self, message: wire.EngineMessage) -> None:
        if message["t"] == "event":
            self.show(message["event_type"], message["data"], message["step"])
        elif message["t"] == "log":
            with self.log.open("ab") as file:
                file.write(wire.encode(message))

    def show(self, event_type: str, data: dict[str, Any], step: str | None = None) -> None:
        self.console.drain()  # what was printed before comes before
        self.screen.show(event_type, data, step)

    async def keep(self, entry: wire.Entry) -> None:
        """The entry counts when this returns, and is shown when it counts."""
        await self.journal.keep(entry)
        for event in entry["events"]:
            self.show(event["event_type"], event["data"], event["step"])

    async def flush(self) -> None:
        """Nothing is under way: what is sent is shown at once."""

    async def collect(self) -> wire.Collected:
        collected = self.collector.collect()
        if collected["files"] or self.collector.skipped:
            self.show("files_updated", told(collected, self.collector.skipped))
        return collected


@dataclass
class Task:
    """All that driving it needs; `wait`: a postponed run is gone on with here, in time."""

    start: wire.Start
    link: Link
    asker: Asker
    wait: bool
    began: float = field(default_factory=time.monotonic)

    @property
    def model(self) -> str:
        """Of the agent whom the task is given to."""
        models = self.start["models"]
        return models.get(agent_of(self.start["config"]), models[DEFAULT])["name"]


class Stopped(Exception):
    """By a signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


async def drive(task: Task) -> int:
    """The exit status of the command. Raises Stopped when a signal ended it; then nothing of the
    code that ran is left."""
    link = task.link
    link.console.listen(link.hear)
    work = asyncio.create_task(_until_the_end(task))
    signals = _stop_at_signals(work)
    try:
        return await work
    except asyncio.CancelledError:
        link.show("run_cancelled", {"by": "signal", "processes_ended": 0})
        raise Stopped(signals[0]) from None


def _stop_at_signals(work: asyncio.Task[int]) -> list[int]:
    """The first ends the work, and with it what it executes; those that came are in the list."""
    came: list[int] = []

    def stop(signum: int) -> None:
        came.append(signum)
        work.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, stop, signum)
    return came


# -- attempts -----------------------------------------------------------------------------------
async def _until_the_end(task: Task) -> int:
    journal = task.link.journal
    crashes = postponements = 0
    while True:
        known = len(journal.entries)
        run, outcome = await _attempt(task)
        if len(journal.entries) > known:
            crashes = postponements = 0
        match outcome["kind"]:
            case "completed":
                return _completed(task, run, outcome)
            case "failed":
                return _failed(task, outcome["error"])
            case "interrupted":
                crashes += 1
                if gives_up_after_crash(crashes):
                    return _failed(task, _killed(crashes))
                _note_end(journal, outcome["reason"])
            case "postponed":
                postponements += 1
                if gives_up_after_postponement(postponements):
                    return _failed(task, outcome["error"])
                delay = seconds_to_wait(postponements, outcome.get("retry_after_s"))
                _postponed(task, outcome["error"], delay)
                if not task.wait:
                    return POSTPONED
                await asyncio.sleep(delay)


async def _attempt(task: Task) -> tuple[Run, wire.Outcome]:
    link, journal = task.link, task.link.journal
    attempt, interruption = journal.attempts + 1, journal.interruption
    journal.append({"t": "start", "attempt": attempt, "model": task.model})
    _tell_beginning(task, attempt, interruption)
    run = Run(
        {**task.start, "attempt": attempt},
        link,
        Journal(journal.entries, link.keep, journal.spent),
        converse=converse,
        ask=task.asker,
    )
    return run, await outcome_of(run)


def _tell_beginning(task: Task, attempt: int, interruption: str) -> None:
    """In the server's order; what the server does not say has a name of its own."""
    link = task.link
    if attempt > 1:
        calls = len(link.journal.entries)
        link.show("terminal_journal", {"path": str(link.journal.path), "finished_calls": calls})
    if interruption:
        link.show("run_recovered", {"attempt": attempt, "reason": interruption})
    level = task.start["sandbox"]["level"]
    link.show("run_started", {"attempt": attempt, "sandbox_level": level, "model": task.model})


def _note_end(journal: JournalFile, interruption: str = "") -> None:
    """Why the next attempt is a recovery; "" when it is none. On a full disk it is not noted, and
    the next attempt is called one."""
    with contextlib.suppress(JournalUnwritable):
        journal.append({"t": "end", "interruption": interruption})


# -- outcomes -----------------------------------------------------------------------------------
def _completed(task: Task, run: Run, outcome: wire.Outcome) -> int:
    journal = task.link.journal
    usages = run.journal.usages()
    data = {
        "summary": outcome["summary"],
        "files": [file["path"] for file in run.files],
        "execution_time_s": round(time.monotonic() - task.began, 3),
        "cost_usd": total_cost(usages),
    }
    more = {
        "answer": journal.last_words,
        "result": outcome["result"],
        "costs": costs_by_model(usages),
        "model": task.model,
        "work_dir": task.start["work_dir"],
    }
    task.link.show("terminal_result", more)
    task.link.show("run_completed", data)
    _note_end(journal)
    return COMPLETED


def _failed(task: Task, error: wire.Failure) -> int:
    journal = task.link.journal
    if error["error_type"] == "nobody_to_ask" and task.asker.unanswered is not None:
        task.link.console.drain()
        task.link.screen.ask({**task.asker.unanswered, "journal": str(journal.path)})
        _note_end(journal)
        return QUESTION
    if key := error.get("key"):  # the next start goes on from there anew
        journal.append({"t": "forget", "key": key})
    shown = {name: value for name, value in error.items() if name != "key"}
    if error["error_type"] == "internal_error":
        shown["suggestion"] = f"Start it again. If it fails again, {task.link.log} says where."
    task.link.show("run_failed", shown)
    _note_end(journal)
    return FAILED


def _killed(crashes: int) -> wire.Failure:
    return {
        "error_type": "crash_loop",
        "message": f"The code was killed from outside {crashes} times in a row.",
        "suggestion": "Look what kills it: the kernel when memory is short, or somebody.",
        "retryable": True,
    }


def _postponed(task: Task, error: wire.Failure, delay: float) -> None:
    journal = task.link.journal
    until = datetime.now(UTC) + timedelta(seconds=delay)
    data = {
        "error_type": error["error_type"],
        "message": error["message"],
        "until": until.isoformat(timespec="milliseconds"),
        "attempt": journal.attempts,
    }
    task.link.show("run_postponed", data)
    _note_end(journal)  # nothing was interrupted
