"""What a workflow sees of its run. Everything that has an effect goes through here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmbagent import workdir
from cmbagent.channel import Channel
from cmbagent.errors import Interrupted, WorkDirectoryUnusable
from cmbagent.execution import (
    Block,
    Execution,
    refuse_without_sandbox,
    run_block,
    science_environment,
)
from cmbagent.wire import CollectedFile, Start

MAX_SAID = 16_000  # characters of one message; an event is at most 32 KB, escapes included


class Run:
    """One attempt of one run."""

    def __init__(self, channel: Channel, start: Start) -> None:
        self._channel, self._start = channel, start
        self._blocks = 0
        self._files: dict[str, CollectedFile] = {}

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
        """What this attempt has made so far, by path."""
        return [self._files[path] for path in sorted(self._files)]

    def emit(self, event_type: str, **data: Any) -> None:
        """Append an event to the session's log; protocol.md section 3 has the vocabulary."""
        self._channel.send({"t": "event", "event_type": event_type, "data": data})

    def say(self, agent: str, content: str) -> None:
        """A message of an agent to the people who follow the session."""
        if len(content) > MAX_SAID:
            content = content[:MAX_SAID] + " […]"
        self.emit("agent_message", agent=agent, role="assistant", content=content)

    def log(self, level: str, event: str, **fields: Any) -> None:
        """A line for the operator's log; nobody else sees it."""
        self._channel.send({"t": "log", "level": level, "event": event, "fields": fields})

    async def execute(self, block: Block, *, phase: str) -> Execution:
        """Run a block in the sandbox and have the files it made collected. Its code is kept
        beside them. A block that fails is told by the returned execution; one that could not be
        run raises SandboxUnavailable, EnvironmentFailed or WorkDirectoryUnusable, one that was
        killed from outside Interrupted."""
        refuse_without_sandbox(self._start["sandbox"])
        await science_environment(Path(self._start["science_env"]), self._tell_phase)
        self._tell_phase(phase)
        path = self._write_block(block)
        await self._channel.flush()
        execution = await run_block(self._start, path, block.parameters)
        if execution.was_killed:
            raise Interrupted("code_killed")
        self.emit(
            "code_execution",
            language="python",
            path=path,
            exit_code=execution.exit_code,
            duration_s=execution.duration_s,
            ended_by=execution.ended_by,
        )
        await self._collect()
        return execution

    def _tell_phase(self, phase: str) -> None:
        self.emit("phase_changed", phase=phase)

    def _write_block(self, block: Block) -> str:
        self._blocks += 1
        path = f"{self._start['run_dir']}/block-{self._blocks}.py"
        code = block.code.encode("utf-8", "surrogatepass")
        try:
            workdir.write_new(self.work_dir, path, code, uid=self._start["sandbox"]["uid"])
        except (workdir.Unsafe, OSError) as error:
            raise WorkDirectoryUnusable(
                f"The code of the block could not be kept as {path}: {error}.",
                f"Let code leave {self._start['run_dir']} alone and some room on the disk.",
            ) from error
        return path

    async def _collect(self) -> None:
        collected = await self._channel.collect()
        for file in collected["files"]:
            self._files[file["path"]] = file
