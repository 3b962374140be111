"""An agent carried out once, for nothing.

What an agent loads and builds when it is first asked costs more than a second. Engines that are
forked from a process that did this share it.
"""

from __future__ import annotations

import contextlib
import tempfile

from pydantic_ai.models.test import TestModel

from cmbagent import wire
from cmbagent.agents.bounds import Bounds
from cmbagent.agents.conversation import build, converse
from cmbagent.agents.prompt import prompt_of
from cmbagent.context import Run
from cmbagent.errors import EngineError, Postponed
from cmbagent.journal import Journal

NOBODY: wire.ModelSpec = {
    "provider": "openai",
    "name": "rehearsal",
    "base_url": "http://127.0.0.1:9/v1",  # the discard port: refused at once
    "api_key": "none",
    "timeout_s": 1.0,
    "input_price": None,
    "output_price": None,
}


class _Nowhere:
    """A link on which everything is well, and nothing is kept."""

    def send(self, message: wire.EngineMessage) -> None:
        pass

    async def flush(self) -> None:
        pass

    async def collect(self) -> wire.Collected:
        return {"t": "collected", "files": [], "skipped": 0}


async def rehearse() -> None:
    """Touches all that a real agent touches, with no secret: a connection is refused by this
    machine itself, and nothing is kept."""
    with tempfile.TemporaryDirectory(prefix="cmbagent-rehearsal-") as folder:
        await _talk(_run(folder))
        with contextlib.suppress(EngineError, Postponed):
            await converse(_run(folder), "engineer", "rehearse")


async def _talk(run: Run) -> None:
    """A conversation with a tool call, streamed, by a model that is in this process."""
    prompt = await prompt_of(run, "engineer")
    model = TestModel(call_tools=["list_files"])
    async with build(model, run, prompt, Bounds.of(run)) as agent:
        await agent.run("rehearse", deps=run)


def _run(folder: str) -> Run:
    start: wire.Start = {
        "t": "start",
        "run_id": "rehearsal",
        "session_id": "rehearsal",
        "attempt": 1,
        "run_number": 1,
        "mode": "one-shot",
        "task": "rehearse",
        "config": {},
        "work_dir": folder,
        "run_dir": "runs/1",
        "sandbox": {"level": None, "remedy": "", "uid": None, "readable": []},
        "science_env": folder,
        "data_roots": [],
        "code_threads": None,
        "limits": {},
        "code_approval": False,
        "models": {"default": NOBODY},
        "spent": [],
        "journal_entries": 0,
    }
    return Run(start, _Nowhere(), Journal([], _forget), converse=converse)


async def _forget(entry: wire.Entry) -> None:
    pass
