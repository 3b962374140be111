"""Text of strangers made fit for a terminal, and numbers made fit for people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from cmbagent.models.choosing import NO_MODEL
from cmbagent.report import total_cost
from cmbagent.wire import Usage
from cmbagent.workdir import visible

# line breaks and tabs are shown as such; output has the return of a progress bar, too
_KEPT = re.compile(r"(\r\n|[\n\t])")
_KEPT_IN_OUTPUT = re.compile(r"([\n\t\r])")


def harmless(text: str) -> str:
    """No escape sequence of a terminal, no change of reading direction, nothing that overwrites
    what stands before it: such characters are shown as what they are. Model and code may have
    written anything."""
    return _shown(text, _KEPT)


def harmless_output(text: str) -> str:
    """What code prints while it runs: a progress bar may go back to the line's beginning."""
    return _shown(text, _KEPT_IN_OUTPUT)


def _shown(text: str, kept: re.Pattern[str]) -> str:
    pieces = kept.split(text)  # every second one is what is kept
    return "".join(
        piece if index % 2 or piece.isprintable() else visible(piece)
        for index, piece in enumerate(pieces)
    )


def money(cost: float | None) -> str:
    """USD; a price that nobody knows is not zero."""
    if cost is None:
        return "unknown"
    return f"${cost:.4f}" if cost else "$0"


def costs_by_model(usages: Iterable[Usage]) -> list[str]:
    """One line a model: calls, tokens, cost."""
    by_model: dict[str, list[Usage]] = {}
    for usage in usages:
        if usage["provider"] == NO_MODEL:
            continue
        by_model.setdefault(usage["model"], []).append(usage)
    return [_cost_line(model, calls) for model, calls in by_model.items()]


def _cost_line(model: str, calls: list[Usage]) -> str:
    sent = sum(call["input_tokens"] for call in calls)
    got = sum(call["output_tokens"] for call in calls)
    number = "1 call" if len(calls) == 1 else f"{len(calls)} calls"
    return f"{model}: {number}, {sent:,} tokens in, {got:,} out, {money(total_cost(calls))}"


def clock_time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
