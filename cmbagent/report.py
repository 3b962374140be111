"""What a workflow hands back when its run is completed."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmbagent import workdir

RESULT_FILE = "result.json"
_MAX_VALUE_BYTES = 32 * 1024
_MAX_DEPTH = 32

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Report:
    """`summary` is a sentence for people, `result` small JSON for programs."""

    summary: str
    result: dict[str, Any]


class ResultFile:
    """The JSON that code may leave as result.json in the work directory to name its result.

    Made before the code runs: a file that is there already and stays as it is belongs to an
    earlier run.
    """

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir
        self._before, _ = self._read()

    def value(self) -> dict[str, Any]:
        """{"value": …} when this run left a result that is JSON, small and not too deep; or {}."""
        stamp, data = self._read()
        if stamp is None or stamp == self._before or len(data) > _MAX_VALUE_BYTES:
            return {}
        try:
            value = json.loads(data, parse_constant=str, parse_float=_finite)
        except (ValueError, RecursionError):
            return {}
        return {"value": value} if _depth(value) <= _MAX_DEPTH else {}

    def _read(self) -> tuple[Stamp | None, bytes]:
        try:
            descriptor = workdir.open_regular(self._work_dir, RESULT_FILE)
        except (workdir.Unsafe, OSError):
            return None, b""
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            stamp = facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
            return stamp, file.read(_MAX_VALUE_BYTES + 1)


def _finite(text: str) -> float | str:
    """1e999 is valid JSON, but what Python makes of it is not."""
    return number if math.isfinite(number := float(text)) else text


def _depth(value: Any, above: int = 0) -> int:
    if above > _MAX_DEPTH or not isinstance(value, dict | list):
        return above
    inner = value.values() if isinstance(value, dict) else value
    return max((_depth(item, above + 1) for item in inner), default=above + 1)
