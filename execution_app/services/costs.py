"""What a run's model calls took. A sum with an unknown part is unknown."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, Sum

from execution_app.models import Usage


@dataclass(frozen=True)
class Costs:
    """Of some calls; cost_usd None: not known. `cached_tokens` are part of the input's."""

    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: Decimal | None

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


NOTHING = Costs(0, 0, 0, 0, Decimal(0))


def cost_of_run(run_id: uuid.UUID) -> Decimal | None:
    """USD; 0 when no model was called, None when the price of a call is not known."""
    return costs_of(run_id).cost_usd


def tokens_of_run(run_id: uuid.UUID) -> int:
    """Of all its calls, in and out."""
    return costs_of(run_id).tokens


def costs_of(run_id: uuid.UUID) -> Costs:
    """Of the whole run."""
    return costs_by(run_id, "run_id").get((run_id,), NOTHING)


def costs_by(run_id: uuid.UUID, *columns: str) -> dict[tuple[Any, ...], Costs]:
    """Of each combination of what these columns of Usage hold, in their order."""
    sums = (
        Usage.objects.filter(run_id=run_id)
        .values_list(*columns)
        .order_by(*columns)
        .annotate(
            Count("pk"),
            Sum("input_tokens"),
            Sum("output_tokens"),
            Sum("cached_tokens"),
            Sum("cost_usd"),
            unknown=Count("pk", filter=Q(cost_usd__isnull=True)),
        )
    )
    width = len(columns)
    return {row[:width]: _costs(*row[width:]) for row in sums}


def _costs(
    calls: int, taken: int, given: int, cached: int, cost: Decimal | None, unknown: int
) -> Costs:
    return Costs(calls, taken, given, cached, None if unknown else cost)
