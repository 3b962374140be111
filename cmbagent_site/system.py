"""How the whole server is doing, for staff; whoever is none finds nothing here."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count, Min
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from cmbagent_site.health import CHECKS, DISK_MINIMUM, result_of
from execution_app.model_choice import models_for
from execution_app.models import Run
from execution_app.readiness import science_environment
from execution_app.statuses import FINAL, LIVE, RunStatus
from sessions_app.errors import ConfigInvalid
from sessions_app.models import HEARTBEAT_LOST_AFTER, Connection, Server
from sessions_app.rendering.entries import ago
from sessions_app.views.access import PageRequest, for_members
from sessions_app.views.context import CHIPS, Chip

LIVE_SECONDS = 5
_A_DAY = timedelta(days=1)
_FAILURES_SHOWN = 10
_SERVERS_SHOWN = 50
_GB = 2**30
Context = dict[str, Any]


@require_GET
@never_cache
@for_members
def show_system(request: PageRequest) -> HttpResponse:
    _refuse_members(request)
    return render(request, "system/system.html", _state() | {"section": "system"})


@require_GET
@never_cache
@for_members
def show_state(request: PageRequest) -> HttpResponse:
    _refuse_members(request)
    return render(request, "system/_state.html", _state())


def _refuse_members(request: PageRequest) -> None:
    if not request.user.is_staff:
        raise Http404


def _state() -> Context:
    now = timezone.now()
    checks = {name: result_of(name, check) for name, check in CHECKS.items()}
    return {
        "checks": [(name.replace("_", " "), result) for name, result in checks.items()],
        "failed": [name for name, result in checks.items() if result["status"] != "ok"],
        "servers": _servers(now),
        **_runs(now),
        "open_connections": Connection.objects.alive().count(),
        "max_connections": settings.MAX_CONNECTIONS,
        "science": science_environment(),
        "disk": _disk(),
        **_models(),
        "failures": _failures(now),
        "at": now,
        "live_seconds": LIVE_SECONDS,
    }


# -- processes --------------------------------------------------------------------------------
@dataclass(frozen=True)
class ShownServer:
    server: Server
    host: str
    alive: bool
    since: str
    beat: str


def _servers(now: datetime) -> list[ShownServer]:
    found = Server.objects.order_by("kind", "host", "-started_at")[:_SERVERS_SHOWN]
    return [
        ShownServer(
            server=server,
            host=server.host.partition("/")[0],  # after it stands which start of the machine it was
            alive=now - server.last_heartbeat < HEARTBEAT_LOST_AFTER,
            since=_ago(now, server.started_at),
            beat=_ago(now, server.last_heartbeat),
        )
        for server in found
    ]


def _ago(now: datetime, then: datetime) -> str:
    return ago((now - then).total_seconds())


# -- runs -------------------------------------------------------------------------------------
def _runs(now: datetime) -> Context:
    live = _counts(Run.objects.filter(status__in=LIVE))
    ended = _counts(Run.objects.filter(status__in=FINAL, finished_at__gt=now - _A_DAY))
    due = Run.objects.claimable().aggregate(oldest=Min("queued_at"))["oldest"]
    return {
        "live": _chips(live, LIVE),
        "ended": _chips(ended, FINAL),
        "oldest": _ago(now, due) if due else "",
    }


def _counts(runs: Any) -> dict[str, int]:
    return dict(runs.order_by().values_list("status").annotate(n=Count("pk")))


def _chips(counts: dict[str, int], statuses: Iterable[RunStatus]) -> list[tuple[Chip, int]]:
    in_order = [status for status in RunStatus if status in statuses]
    return [(_chip(status, counts.get(status, 0)), counts.get(status, 0)) for status in in_order]


def _chip(status: RunStatus, count: int) -> Chip:
    """Coloured when there is something; and who looks here is not who is waited for."""
    label = "Waiting for approval" if status == RunStatus.WAITING_APPROVAL else CHIPS[status].label
    return Chip(label, CHIPS[status].tone.replace("wait", "") if count else "")


@dataclass(frozen=True)
class Failure:
    run: Run
    admin_url: str
    when: str


def _failures(now: datetime) -> list[Failure]:
    failed = Run.objects.filter(status=RunStatus.FAILED, session__deleted_at__isnull=True)
    newest = failed.select_related("session__owner").order_by("-finished_at")[:_FAILURES_SHOWN]
    return [
        Failure(
            run=run,
            admin_url=reverse("admin:execution_app_run_change", args=[run.pk]),
            when=_ago(now, run.finished_at or now),
        )
        for run in newest
    ]


# -- what they stand on -----------------------------------------------------------------------
def _disk() -> Context:
    usage = shutil.disk_usage(Path(settings.DATA_DIR))
    return {
        "free": f"{usage.free / _GB:,.1f}",
        "total": f"{usage.total / _GB:,.1f}",
        "percent": round(100 * (usage.total - usage.free) / usage.total),
        "is_short": usage.free < DISK_MINIMUM,
    }


def _models() -> Context:
    """Names, never keys."""
    try:
        chosen = models_for({})
    except ConfigInvalid as refusal:
        return {"model_problem": ". ".join(refusal.fields.values()), "models": []}
    return {"models": [(role, spec["name"]) for role, spec in chosen.items()]}
