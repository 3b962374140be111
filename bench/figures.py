"""One measured figure, and the table of all."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """Repeated measurements of one thing. `bound` is what this house promises of their median."""

    name: str
    shape: str
    unit: str
    values: Sequence[float]
    bound: float | None = None
    more_is_better: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def holds(self) -> bool:
        if self.bound is None:
            return True
        return self.median >= self.bound if self.more_is_better else self.median <= self.bound

    def row(self) -> str:
        relation = "≥" if self.more_is_better else "≤"
        bound = "" if self.bound is None else f"{relation} {self.bound:,g}"
        low, high = min(self.values), max(self.values)
        cells = (
            self.name,
            self.shape,
            f"{self.median:,.4g} {self.unit}",
            f"{low:,.4g} - {high:,.4g}",
            str(len(self.values)),
            bound,
            "yes" if self.holds else "NO",
        )
        return "| " + " | ".join(cells) + " |"


HEAD = """| what | shape | median | range | n | promised | holds |
|---|---|---|---|---|---|---|"""


def show(figure: Figure) -> None:
    sys.stdout.write(figure.row() + "\n")
    sys.stdout.flush()


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
