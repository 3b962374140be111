"""What an agent may use up before it must come to an end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import RunContext, ToolCallPart, ToolDefinition
from pydantic_ai.capabilities import AbstractCapability

from cmbagent.context import Run
from cmbagent.errors import AttemptsExhausted, RoundsExhausted
from cmbagent.report import named

MAX_ROUNDS = 25  # requests to the model, unless the session says otherwise
MAX_FAILURES = 6  # executions that fail; the configuration calls them attempts


MAX_CALLS = 32  # of tools, in one answer
CALLS_PER_ROUND = 10  # on average


@dataclass
class Bounds(AbstractCapability[Run]):
    """Counts what the journal replays too: a run that goes on has used what it used before."""

    run: Run
    rounds: int
    max_failures: int
    failures: int = 0
    calls: Counter[int] = field(default_factory=Counter)  # of tools, by round

    @classmethod
    def of(cls, run: Run) -> Bounds:
        rounds = run.config.get("maxRounds", MAX_ROUNDS)
        return cls(run, rounds, run.config.get("maxAttempts", MAX_FAILURES))

    def last_round(self, context: RunContext[Run]) -> str | None:
        """An instruction for the last request."""
        if context.run_step < self.rounds:
            return None
        return (
            "This is your last round: no tool will be run any more. Answer now with what you have, "
            "and say plainly what is unfinished."
        )

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Run],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        handler: Any,
    ) -> Any:
        if ctx.run_step >= self.rounds:
            raise self.rounds_exhausted()
        self.calls[ctx.run_step] += 1
        if self.calls.total() > CALLS_PER_ROUND * self.rounds:
            raise self._calls_exhausted()
        if self.calls[ctx.run_step] > MAX_CALLS:
            return {"error": f"Not run: one answer may call {MAX_CALLS} tools. Call it again."}
        result = await handler(args)
        if isinstance(result, dict) and result.get("succeeded") is False:
            self._count_failure(result)
        return result

    def rounds_exhausted(self) -> RoundsExhausted:
        return RoundsExhausted(
            f"The model was asked {self.rounds} times, which is as often as it may be, and had not "
            f"finished. {self._kept()}",
            "Start the task again with a larger maxRounds, or ask for less at once.",
        )

    def _calls_exhausted(self) -> RoundsExhausted:
        return RoundsExhausted(
            f"The model called {CALLS_PER_ROUND * self.rounds} tools, which is as many as it may, "
            f"and had not finished. {self._kept()}",
            "Start the task again with a larger maxRounds, or ask for less at once.",
        )

    def _count_failure(self, result: dict[str, Any]) -> None:
        self.failures += 1
        if self.failures >= self.max_failures:
            times = "once" if self.failures == 1 else f"{self.failures} times"
            raise AttemptsExhausted(
                f"The model's code failed {times}, which is as often as it may. The last, "
                f"{result['path']}, {result['ending']} {self._kept()}",
                "Read the end of the console, then start the task again with a larger maxAttempts "
                "or say in the task what the model got wrong.",
            )

    def _kept(self) -> str:
        paths = [file["path"] for file in self.run.files]
        if not paths:
            return "No file was made."
        return f"What was made is kept: {named(paths)}."
