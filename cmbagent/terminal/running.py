"""Drives one task on the terminal: attempts from its journal until an outcome."""

from __future__ import annotations

import asyncio
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
from cmbagent.terminal.asking import Asker
from cmbagent.terminal.collecting import Collector, told
from cmbagent.terminal.console import Console
from cmbagent.terminal.journal_file import JournalFile
from cmbagent.terminal.screen import Screen
from cmbagent.terminal.words import costs_by_model, total

COMPLETED, FAILED, QUESTION, POSTPONED = 0, 1, 3, 75  # 75: EX_TEMPFAIL of sysexits.h
PATIENCE = 10  # attempts that brought the journal no further, then a postponed run fails
CRASHES = 5  # the same for code that somebody kills
_LONGEST_WAIT_S, _LONGEST_GUESS_S = 3600.0, 60.0


@dataclass
class Link:
    """What a supervisor is to an engine: it shows, stores and collects, here in one process."""

    screen: Screen
    console: Console
    journal: JournalFile
    collector: Collector
    log: Path

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
        role = self.start["config"].get("agent", "")
        return models.get(role, models["default"])["name"]


class Stopped(Exception):
    """By a signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


async def drive(task: Task) -> int:
    """The exit status of the command. Raises Stopped when a signal ended it; then nothing of the
    code that ran is left."""
    link = task.link
    link.console.listen(lambda stream, text: link.screen.show("output", _output(stream, text)))
    work = asyncio.create_task(_until_the_end(task))
    signals = _stop_at_signals(work)
    try:
        return await work
    except asyncio.CancelledError:
        link.show("run_cancelled", {"by": "signal", "processes_ended": 0})
        raise Stopped(signals[0]) from None


def _output(stream: str, text: str) -> dict[str, str]:
    return {"stream": stream, "text": text}


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
    tries, entries = 0, len(journal.entries)
    while True:
        outcome = await _attempt(task)
        if len(journal.entries) > entries:
            tries, entries = 0, len(journal.entries)
        tries += 1
        if outcome["kind"] == "completed":
            return _completed(task, outcome)
        if outcome["kind"] == "failed" or tries >= _patience(outcome):
            return _failed(task, outcome)
        if outcome["kind"] == "postponed":
            delay = _delay(outcome, tries)
            _tell_postponed(task, outcome, delay)
            if not task.wait:
                return POSTPONED
            await asyncio.sleep(delay)


async def _attempt(task: Task) -> wire.Outcome:
    link, journal = task.link, task.link.journal
    attempt = journal.attempts + 1
    model = task.model
    journal.append({"t": "start", "attempt": attempt, "model": model})
    level = task.start["sandbox"]["level"]
    link.show("run_started", {"attempt": attempt, "sandbox_level": level, "model": model})
    if attempt > 1:
        _tell_recovered(link, attempt)
    run = Run(
        {**task.start, "attempt": attempt},
        link,
        Journal(journal.entries, link.keep, journal.spent),
        converse=converse,
        ask=task.asker,
    )
    return await outcome_of(run)


def _tell_recovered(link: Link, attempt: int) -> None:
    calls = len(link.journal.entries)
    data = {"attempt": attempt, "reason": "started_again", "finished_calls": calls}
    link.show("run_recovered", data)


def _patience(outcome: wire.Outcome) -> int:
    return PATIENCE if outcome["kind"] == "postponed" else CRASHES


def _delay(outcome: wire.Outcome, tries: int) -> float:
    """As long as the one in the way said, else longer each time."""
    said = outcome.get("retry_after_s")
    seconds = min(2.0**tries, _LONGEST_GUESS_S) if said is None else said
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)


# -- outcomes -----------------------------------------------------------------------------------
def _completed(task: Task, outcome: wire.Outcome) -> int:
    journal = task.link.journal
    usages = [entry["usage"] for entry in journal.entries if entry["usage"]]
    data = {
        "summary": outcome["summary"],
        "answer": journal.last_words,
        "result": outcome["result"],
        "files": [file["path"] for file in _files(journal)],
        "execution_time_s": round(time.monotonic() - task.began, 3),
        "cost_usd": total(usages),
        "costs": costs_by_model(usages),
        "model": task.model,
        "work_dir": task.start["work_dir"],
    }
    task.link.show("run_completed", data)
    return COMPLETED


def _files(journal: JournalFile) -> list[wire.CollectedFile]:
    executions = [entry for entry in journal.entries if entry["kind"] == "execution"]
    files = {file["path"]: file for entry in executions for file in entry["payload"]["files"]}
    return [files[path] for path in sorted(files)]


def _failed(task: Task, outcome: wire.Outcome) -> int:
    error = outcome.get("error") or _KILLED
    if error["error_type"] == "nobody_to_ask" and task.asker.unanswered is not None:
        task.link.console.drain()
        question = {**task.asker.unanswered, "journal": str(task.link.journal.path)}
        task.link.screen.ask(question)
        return QUESTION
    if key := error.get("key"):  # the next start goes on from there anew
        task.link.journal.append({"t": "forget", "key": key})
    shown = {name: value for name, value in error.items() if name != "key"}
    if error["error_type"] == "internal_error":
        shown["suggestion"] = f"Start it again. If it fails again, {task.link.log} says where."
    task.link.show("run_failed", shown)
    return FAILED


_KILLED: wire.Failure = {
    "error_type": "crash_loop",
    "message": f"The code was killed from outside {CRASHES} times in a row.",
    "suggestion": "Look what kills it: the kernel when memory is short, or somebody.",
    "retryable": True,
}


def _tell_postponed(task: Task, outcome: wire.Outcome, delay: float) -> None:
    until = datetime.now(UTC) + timedelta(seconds=delay)
    error = outcome["error"]
    data = {"error_type": error["error_type"], "message": error["message"]}
    task.link.show("run_postponed", {**data, "until": until.isoformat()})
