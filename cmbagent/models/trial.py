"""Whether a model answers: one small question, outside of any run."""

from __future__ import annotations

import httpx2
from pydantic_ai import Agent
from pydantic_ai.exceptions import AgentRunError

from cmbagent.errors import EngineError, Postponed
from cmbagent.models.building import connected_model
from cmbagent.models.failures import translate
from cmbagent.models.pricing import usage_of
from cmbagent.wire import ModelSpec, Usage

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
