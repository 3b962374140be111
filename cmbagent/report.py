"""What a workflow hands back when its run is completed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmbagent import workdir
from cmbagent.execution import Execution
from cmbagent.wire import CollectedFile, Usage

RESULT_FILE = "result.json"
_MAX_VALUE_BYTES = 32 * 1024
_MAX_DEPTH = 32
_MAX_NAMED = 12  # files in one sentence


@dataclass(frozen=True)
class Report:
    """`summary` is a sentence for people, `result` small JSON for programs."""

    summary: str
    result: dict[str, Any]


def result_value(work_dir: Path, made: Collection[str]) -> dict[str, Any]:
    """{"value": …} when code of this run left a result.json that is JSON, small and not too deep,
    or {}. `made` are the paths of what the run made: another run's result is not this one's."""
    if RESULT_FILE not in made:
        return {}
    try:
        value = json.loads(_read(work_dir), parse_constant=str, parse_float=_finite)
    except (workdir.Unsafe, OSError, ValueError, RecursionError):
        return {}
    return {"value": value} if _depth(value) <= _MAX_DEPTH else {}


def about_work(executions: list[Execution], files: list[CollectedFile]) -> str:
    """For people: "2 blocks ran in 1.2 s. Files made: a.png, b.csv." """
    seconds = sum(execution.duration_s for execution in executions)
    blocks = "1 block" if len(executions) == 1 else f"{len(executions)} blocks"
    ran = f"{blocks} ran in {seconds:.1f} s. " if executions else ""
    return f"{ran}Files made: {named(made_by(executions, files)) or 'none'}."


def made_by(executions: list[Execution], files: list[CollectedFile]) -> list[str]:
    """The paths of the files but for the code that made them."""
    code = {execution.path for execution in executions}
    return [file["path"] for file in files if file["path"] not in code]


def named(paths: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(paths) - _MAX_NAMED} more" if len(paths) > _MAX_NAMED else ""
    return ", ".join(paths[:_MAX_NAMED]) + more


def about_models(usages: list[Usage]) -> str:
    """For people: "gpt-4o, 3 rounds, $0.0123"."""
    names = ", ".join(dict.fromkeys(usage["model"] for usage in usages))
    rounds = "1 round" if len(usages) == 1 else f"{len(usages)} rounds"
    return f"{names}, {rounds}, {_money(total_cost(usages))}"


def total_cost(usages: list[Usage]) -> float | None:
    """In USD; None when the cost of any is unknown."""
    known = [cost for usage in usages if (cost := usage["cost_usd"]) is not None]
    return math.fsum(known) if len(known) == len(usages) else None


def _money(cost: float | None) -> str:
    if cost is None:
        return "cost unknown"
    return f"${cost:.2f}" if cost >= 1 or cost == 0 else f"${cost:.2g}"


def _read(work_dir: Path) -> bytes:
    """Raises Unsafe, OSError, ValueError for more than a value may have."""
    with os.fdopen(workdir.open_regular(work_dir, RESULT_FILE), "rb") as file:
        data = file.read(_MAX_VALUE_BYTES + 1)
    if len(data) > _MAX_VALUE_BYTES:
        raise ValueError("too much for a value")
    return data


def _finite(text: str) -> float | str:
    """1e999 is valid JSON, but what Python makes of it is not."""
    return number if math.isfinite(number := float(text)) else text


def _depth(value: Any, above: int = 0) -> int:
    if above > _MAX_DEPTH or not isinstance(value, dict | list):
        return above
    inner = value.values() if isinstance(value, dict) else value
    return max((_depth(item, above + 1) for item in inner), default=above + 1)
