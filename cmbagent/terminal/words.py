"""Text of strangers made fit for a terminal, and numbers made fit for people."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from cmbagent.models.choosing import NO_MODEL
from cmbagent.report import total_cost
from cmbagent.wire import Usage
from cmbagent.workdir import visible

# what cuts a text into lines here, and what a progress bar goes back to the line's beginning with
_KEPT = re.compile(r"([\n\t\r])")


def harmless(text: str) -> str:
    """No escape sequence of a terminal, no change of reading direction: such characters are shown
    as what they are. Model and code may have written anything."""
    pieces = _KEPT.split(text)
    return "".join(
        piece if piece.isprintable() or piece in {"\n", "\t", "\r"} else visible(piece)
        for piece in pieces
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
