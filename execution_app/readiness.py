"""Whether a task would be carried out now: what people are told before they start one."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from cmbagent.environment import EnvironmentState, state
from sessions_app.models import Server


@dataclass(frozen=True)
class Readiness:
    """`science` is the environment for executed code as this host has it. `sandbox_level` is the
    weakest of the workers'; None when one of them, or nobody, has any."""

    science: EnvironmentState
    workers: int
    sandbox_level: int | None
    sandbox_report: str

    @property
    def is_ready(self) -> bool:
        has_workers = self.workers > 0 and self.sandbox_level is not None
        return has_workers and self.science.state == "ready"


def science_environment() -> EnvironmentState:
    return state(settings.SCIENCE_ENV, settings.SCIENCE_LOCK)


def readiness() -> Readiness:
    alive = Server.objects.alive().filter(kind=Server.Kind.WORKER, draining_at__isnull=True)
    workers = list(alive.order_by("sandbox_level"))
    levels = [worker.sandbox_level for worker in workers if worker.sandbox_level is not None]
    return Readiness(
        science=science_environment(),
        workers=len(workers),
        sandbox_level=max(levels) if levels and len(levels) == len(workers) else None,
        sandbox_report=workers[-1].sandbox_report if workers else "",
    )
