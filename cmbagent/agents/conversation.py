"""Has an agent carry out a task with the model of its role."""

from __future__ import annotations

from pydantic_ai import Agent, FunctionToolset, UsageLimits
from pydantic_ai.exceptions import AgentRunError, UsageLimitExceeded
from pydantic_ai.models import Model

from cmbagent.agents.bounds import Bounds
from cmbagent.agents.durable import Durability
from cmbagent.agents.prompt import Prompt, prompt_of
from cmbagent.agents.toolbox import TOOLS
from cmbagent.context import Run
from cmbagent.errors import AttemptsExhausted, EngineError, RoundsExhausted
from cmbagent.models.building import build_model
from cmbagent.models.failures import ContextTooLong, OutputTooLong, translate

SPEAKER = "cmbagent"  # says what no AI said
# What the agent did so far leads here again, and is in the journal: a retry lets it begin anew.
_USED_UP = (AttemptsExhausted, RoundsExhausted, ContextTooLong, OutputTooLong)
_RETRIES = 3  # answers in a row that fit no tool and no output


async def converse(run: Run, name: str, task: str) -> str:
    """What the agent says at the end. Raises EngineErrors, Postponed when the model cannot be
    asked now, Interrupted."""
    prompt = await prompt_of(run, name)
    try:
        return await _converse(run, prompt, task)
    except _USED_UP as error:
        error.key = run.journal.first_key()
        raise


async def _converse(run: Run, prompt: Prompt, task: str) -> str:
    spec, bounds = run.model(prompt.role), Bounds.of(run)
    agent = build(build_model(spec, run), run, prompt, bounds)
    limits = UsageLimits(request_limit=bounds.rounds if run.uses_ai(prompt.role) else None)
    try:
        async with agent:
            result = await agent.run(task, deps=run, usage_limits=limits)
    except UsageLimitExceeded as error:
        raise bounds.rounds_exhausted() from error
    except AgentRunError as error:  # about answers that came: what kept one away, its request told
        told = translate(error, spec)
        if not isinstance(told, EngineError):
            raise
        told.key = run.journal.first_key()
        raise told from error
    if result.response.finish_reason == "length":
        raise OutputTooLong(spec["name"])
    return result.output


def build(model: Model, run: Run, prompt: Prompt, bounds: Bounds) -> Agent[Run, str]:
    """Without AI nothing bounds the rounds: there are as many as the task has blocks."""
    is_ai = run.uses_ai(prompt.role)
    speaker = prompt.name if is_ai else SPEAKER
    durability = Durability(
        run, run.model(prompt.role), agent=prompt.name, speaker=speaker, is_ai=is_ai
    )
    return Agent(
        model,
        name=prompt.name,
        deps_type=Run,
        instructions=[prompt.instructions, *_wishes(run), bounds.last_round] if is_ai else None,
        retries=_RETRIES,
        toolsets=[FunctionToolset([TOOLS[tool] for tool in prompt.tools], id="tools")],
        capabilities=[bounds, durability] if is_ai else [durability],
    )


def _wishes(run: Run) -> list[str]:
    """What the session asks its agents to keep in mind."""
    wishes = run.config.get("instructions")
    return [f"The person who gave the task also asks of you:\n{wishes}"] if wishes else []
