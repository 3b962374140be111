"""The workflow of each mode: ordinary async Python that reads top to bottom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cmbagent.context import Run
from cmbagent.errors import ModeUnknown
from cmbagent.report import Report
from cmbagent.workflows.one_shot import one_shot

Workflow = Callable[[Run], Awaitable[Report]]

WORKFLOWS: dict[str, Workflow] = {"one-shot": one_shot}


def find(mode: str) -> Workflow:
    """Raises ModeUnknown."""
    if mode not in WORKFLOWS:
        raise ModeUnknown(
            f"This engine has no workflow for the mode {mode!r}.",
            f"Use one of: {', '.join(WORKFLOWS)}.",
        )
    return WORKFLOWS[mode]
