"""Whether a model answers: one small question, outside of any run.

As a program it reads the model's ModelSpec as JSON from stdin, and writes what the answer took, or
the failure, to stdout.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import httpx2
from pydantic_ai import Agent
from pydantic_ai.exceptions import AgentRunError

from cmbagent.errors import EngineError, Postponed
from cmbagent.models.building import connected_model
from cmbagent.models.failures import translate
from cmbagent.models.pricing import usage_of
from cmbagent.wire import ModelSpec, Usage

LONGEST_S = 60  # whoever started it may have died: then it ends by itself
_QUESTION = "Explain in one word what a photon is."


async def ask_once(spec: ModelSpec) -> Usage:
    """What the answer took. Raises EngineError for whatever keeps the model from answering, also
    for what would pass by itself."""
    try:
        async with Agent(connected_model(spec)) as agent:
            result = await agent.run(_QUESTION)
    except (AgentRunError, httpx2.TransportError) as error:
        raise _failure(error, spec) from None  # its text and trace may hold the key
    return usage_of(spec, "test", result.response)


def _failure(error: Exception, spec: ModelSpec) -> Exception:
    match translate(error, spec):
        case Postponed() as postponed:
            return postponed.error
        case EngineError() as failure:
            return failure
    return error


def main() -> None:
    signal.alarm(LONGEST_S)
    spec: ModelSpec = json.load(sys.stdin)
    try:
        said: object = asyncio.run(ask_once(spec))
    except EngineError as error:
        said = error.failure()
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
