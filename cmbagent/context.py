"""What a workflow sees of its run. Everything that has an effect goes through here.

What is finished stays finished: agents, steps, branches, tools, executions and messages are
entries of the run's journal, and an attempt after an interruption gets them back from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from cmbagent import wire, workdir
from cmbagent.errors import (
    EngineError,
    Interrupted,
    NobodyToAsk,
    NotApproved,
    WorkDirectoryUnusable,
)
from cmbagent.execution import (
    Block,
    Execution,
    refuse_without_sandbox,
    run_block,
    science_environment,
)
from cmbagent.journal import Announcement, Journal
from cmbagent.models.choosing import NO_MODEL
from cmbagent.wire import CollectedFile, Start

MAX_SAID = 16_000  # characters of one message; an event is at most 32 KB, escapes included
MAX_TOLD = 4_000  # of a tool's argument or result
MAX_SUMMARY = 2_000

_step: ContextVar[str | None] = ContextVar("step", default=None)

Body = Callable[[], Awaitable[Any]]


class Link(Protocol):
    """The way to whoever supervises the run."""

    def send(self, message: wire.EngineMessage) -> None: ...
    async def flush(self) -> None: ...
    async def collect(self) -> wire.Collected: ...


class Converse(Protocol):
    """Has an agent carry out a task; its calls are entries of the run's journal too."""

    async def __call__(self, run: Run, name: str, task: str) -> str: ...


Question = dict[str, Any]  # {approval_type, message, options, context}
Answer = dict[str, Any]  # {resolution, feedback, modifications}
Ask = Callable[[Question], Awaitable[Answer]]


async def nobody(question: Question) -> Answer:
    raise NobodyToAsk(question)


class Run:
    """One attempt of one run."""

    def __init__(
        self, start: Start, link: Link, journal: Journal, *, converse: Converse, ask: Ask = nobody
    ) -> None:
        self._start, self._link, self.journal = start, link, journal
        self._converse, self._ask = converse, ask
        self._numbers: set[int] = set()  # of the blocks that run now
        self._indexes: set[int] = set()  # of the steps that began now
        self._files: dict[str, CollectedFile] = {}
        for payload in journal.payloads("execution"):
            self._note_files(payload["files"])

    @property
    def mode(self) -> str:
        return self._start["mode"]

    @property
    def task(self) -> str:
        return self._start["task"]

    @property
    def config(self) -> dict[str, Any]:
        return self._start["config"]

    @property
    def work_dir(self) -> Path:
        return Path(self._start["work_dir"])

    @property
    def files(self) -> list[CollectedFile]:
        """What the run has made so far, by path."""
        return [self._files[path] for path in sorted(self._files)]

    @property
    def executions(self) -> list[Execution]:
        """What was executed so far, whatever attempt did it, by number."""
        done = map(_execution_of, self.journal.payloads("execution"))
        return sorted(done, key=lambda execution: execution.number)

    def model(self, role: str) -> wire.ModelSpec:
        """Which model an agent of this role uses."""
        models = self._start["models"]
        return models.get(role, models["default"])

    def uses_ai(self, role: str) -> bool:
        return self.model(role)["provider"] != NO_MODEL

    # -- what is told, and may be told again after an interruption ------------------------------
    def emit(self, event_type: str, **data: Any) -> None:
        """Append an event to the session's log; protocol.md section 3 has the vocabulary."""
        self._link.send({"t": "event", "event_type": event_type, "data": data, "step": _step.get()})

    async def flush(self) -> None:
        """Wait until most of what was told is taken: whoever tells much goes at that pace."""
        await self._link.flush()

    def log(self, level: str, event: str, **fields: Any) -> None:
        """A line for the operator's log; nobody else sees it."""
        self._link.send({"t": "log", "level": level, "event": event, "fields": fields})

    # -- what happens once ----------------------------------------------------------------------
    async def agent(self, name: str, task: str) -> str:
        """Have the agent of this name carry out the task; what it says at the end."""

        async def body() -> str:
            return await self._converse(self, name, task)

        arguments = {"agent": name, "task": task}
        answer = await self.journal.once("agent", f"agent:{name}", arguments, body)
        return str(answer)

    async def step(
        self, title: str, function: Callable[..., Awaitable[Any]], *args: Any, agent: str = ""
    ) -> Any:
        """One step of the plan: shown with its status, and a scope of the journal. `function`
        gets the run and the arguments and returns JSON."""
        index = 0  # until it has begun

        async def body() -> Any:
            nonlocal index
            index = await self.journal.once("index", "index", None, self._free_index)
            with _in_step(index):
                self.emit("step_started", index=index, title=title, agent=agent)
                return await function(self, *args)

        def announce(value: Any) -> Announcement:
            summary = value[:MAX_SUMMARY] if isinstance(value, str) else ""
            with _in_step(index):
                return self.announcing("step_completed", index=index, title=title, summary=summary)

        arguments = {"title": title}
        try:
            return await self.journal.once(
                "step", f"step:{title}", arguments, body, announce=announce
            )
        except EngineError as error:
            if index:
                with _in_step(index):
                    self.emit("step_failed", index=index, title=title, error=error.message)
            raise

    async def _free_index(self) -> int:
        """The first that no step has. It is an entry before the step is told of, so whoever begins
        the step again finds the same, whatever branches began and ended meanwhile."""
        index = _first_free(self._indexes.union(self.journal.payloads("index")))
        self._indexes.add(index)
        return index

    async def branch(self, name: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """A part of the workflow that runs beside others: its name keeps its entries apart."""

        async def body() -> Any:
            return await function(self, *args)

        return await self.journal.once("branch", f"branch:{name}", {"branch": name}, body)

    async def tool(self, name: str, arguments: dict[str, Any], body: Body) -> Any:
        """A call with an effect that no agent asked for; `body` returns JSON."""

        return await self.journal.once(
            "tool",
            f"tool:{name}",
            arguments,
            body,
            announce=lambda result: self.announcing_tool(name, arguments, result),
        )

    async def say(self, agent: str, content: str) -> None:
        """A message of an agent to the people who follow the session, once."""

        async def body() -> None:
            return None

        await self.journal.once(
            "message",
            f"say:{agent}",
            {"agent": agent},  # not the words: a newer program may put them better
            body,
            announce=lambda _: self.announcing_message(agent, content),
        )

    async def ask(self, question: Question) -> Answer:
        """What a person answers. Raises NobodyToAsk."""

        async def body() -> Answer:
            return await self._ask(question)

        answer: Answer = await self.journal.once("answer", "ask", question, body)
        return answer

    async def execute(self, block: Block) -> Execution:
        """Run a block in the sandbox and have the files it made collected. Its code is kept
        beside them. A block that fails is told by the returned execution; one that could not be
        run raises SandboxUnavailable, EnvironmentFailed, WorkDirectoryUnusable or NotApproved,
        one that was killed from outside Interrupted."""

        async def body() -> dict[str, Any]:
            await self._approve(block)
            execution = await self._execute(block)
            collected = await self._link.collect()
            return {"execution": asdict(execution), "files": collected["files"]}

        def announce(payload: dict[str, Any]) -> Announcement:
            return self.announcing("code_execution", language="python", **_told(payload))

        arguments = {"code": block.code, "parameters": block.parameters}
        payload = await self.journal.once(
            "execution", "execute", arguments, body, announce=announce
        )
        self._note_files(payload["files"])
        return _execution_of(payload)

    async def keep_text(self, name: str, text: str) -> str:
        """Keep a text as a file of the run; its path. Raises WorkDirectoryUnusable."""
        path = f"{self._start['run_dir']}/{name}"

        async def body() -> list[CollectedFile]:
            self._write(path, text)
            return (await self._link.collect())["files"]

        arguments = {"path": path, "sha256": hashlib.sha256(_encoded(text)).hexdigest()}
        self._note_files(await self.journal.once("tool", f"keep:{name}", arguments, body))
        return path

    def announcing(self, event_type: str, **data: Any) -> Announcement:
        """An event that is stored together with the entry that it announces."""
        event: wire.Announced = {"event_type": event_type, "data": data, "step": _step.get()}
        return Announcement([event])

    def announcing_message(self, agent: str, content: str) -> Announcement:
        if len(content) > MAX_SAID:
            content = content[:MAX_SAID] + " […]"
        return self.announcing("agent_message", agent=agent, role="assistant", content=content)

    def announcing_tool(self, name: str, arguments: dict[str, Any], result: Any) -> Announcement:
        text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
        return self.announcing(
            "tool_call",
            tool_name=name,
            arguments={key: _cut(wire.finite(value)) for key, value in arguments.items()},
            result=_cut(text),
        )

    # -- executing ------------------------------------------------------------------------------
    async def _approve(self, block: Block) -> None:
        """Where nothing confines code, or the operator wants it so, a person decides."""
        if not self._start["code_approval"]:
            refuse_without_sandbox(self._start["sandbox"])
            return
        answer = await self.ask(_about_code(block, self._start["sandbox"]["level"]))
        if answer["resolution"] != "approve":
            raise NotApproved(
                "The code was not approved" + f": {answer['feedback']}" * bool(answer["feedback"]),
                "Change the task, then start it again.",
            )

    async def _execute(self, block: Block) -> Execution:
        await science_environment(Path(self._start["science_env"]), self._tell_phase)
        number = self._free_number()
        self._tell_phase(f"Running block {number}")
        self._numbers.add(number)
        try:
            path = f"{self._start['run_dir']}/block-{number}.py"
            self._write(path, block.code)
            await self._link.flush()
            execution = await run_block(self._start, number, path, block.parameters)
        finally:
            self._numbers.discard(number)
        if execution.was_killed:
            raise Interrupted("code_killed")
        return execution

    def _free_number(self) -> int:
        """The first that no finished and no other running block has."""
        finished = {p["execution"]["number"] for p in self.journal.payloads("execution")}
        return _first_free(finished | self._numbers)

    def _tell_phase(self, phase: str) -> None:
        self.emit("phase_changed", phase=phase)

    def _write(self, path: str, text: str) -> None:
        uid = self._start["sandbox"]["uid"]
        try:
            workdir.write_new(self.work_dir, path, _encoded(text), uid=uid)
        except (workdir.Unsafe, OSError) as error:
            raise WorkDirectoryUnusable(
                f"{path} could not be written: {error}.",
                f"Let code leave {self._start['run_dir']} alone and some room on the disk.",
            ) from error

    def _note_files(self, files: list[CollectedFile]) -> None:
        for file in files:
            self._files[file["path"]] = file


@contextlib.contextmanager
def _in_step(index: int) -> Iterator[None]:
    token = _step.set(str(index))
    try:
        yield
    finally:
        _step.reset(token)


def _first_free(taken: set[int]) -> int:
    return next(number for number in itertools.count(1) if number not in taken)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _cut(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= MAX_TOLD else text[:MAX_TOLD] + " […]"


def _execution_of(payload: dict[str, Any]) -> Execution:
    return Execution(**{**payload["execution"], "files": payload["files"]})


def _told(payload: dict[str, Any]) -> dict[str, Any]:
    shown = ("path", "exit_code", "duration_s", "ended_by")
    return {name: payload["execution"][name] for name in shown}


def _about_code(block: Block, level: int | None) -> Question:
    confined = "without any confinement" if level in {None, 3} else f"in the sandbox, level {level}"
    return {
        "approval_type": "tool_approval",
        "message": f"May this Python run {confined}?",
        "options": [
            {"id": "approve", "label": "Run it"},
            {"id": "reject", "label": "Do not run it"},
        ],
        "context": {"language": "python", "code": block.code, "parameters": block.parameters},
    }
