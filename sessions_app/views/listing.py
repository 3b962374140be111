"""The list of sessions."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, OuterRef, Q, Subquery, Sum
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET
from django.views.decorators.vary import vary_on_headers

from execution_app.models import Run, Usage
from execution_app.statuses import RunStatus
from sessions_app.forms import NO_TASK, FilterForm
from sessions_app.models import Session, SessionQuerySet
from sessions_app.rendering.entries import ago, clock, money
from sessions_app.views.access import PageRequest, for_members
from sessions_app.views.context import Chip, make_chip, mode_label

PAGE_SIZE = 25
LIVE_SECONDS = 3  # how old what is shown may be, while somebody looks


@require_GET
@for_members
def home(request: PageRequest) -> HttpResponse:
    """Whoever has begun nothing yet is shown how."""
    begun = Session.objects.visible_to(request.user).filter(owner=request.user).exists()
    return redirect("sessions:list" if begun else "sessions:welcome")


@require_GET
@for_members
@vary_on_headers("HX-Request")
def list_sessions(request: PageRequest) -> HttpResponse:
    form = FilterForm(request.GET)
    valid = form.is_valid()
    found = _filtered(Session.objects.visible_to(request.user), form.cleaned_data)
    context = {"form": form, "section": "sessions", **_page_context(request, found)}
    fragment = request.htmx and not request.htmx.history_restore_request
    if fragment and request.GET.get("seen") == context["seen"]:
        return HttpResponse(status=204)  # it looks as it did
    template = "sessions/_list.html" if fragment else "sessions/list.html"
    return render(request, template, context, status=200 if valid else 422)


def _filtered(sessions: SessionQuerySet, wanted: dict[str, Any]) -> SessionQuerySet:
    if mode := wanted.get("mode"):
        sessions = sessions.filter(mode=mode)
    if status := wanted.get("status"):
        last = _last_run_of("pk").values("status")[:1]
        sessions = sessions.annotate(last_status=Subquery(last))
        known = Q(last_status__isnull=True) if status == NO_TASK else Q(last_status=status)
        sessions = sessions.filter(known)
    if words := wanted.get("q"):
        sessions = sessions.filter(name__icontains=words)
    return sessions


@dataclass(frozen=True)
class Row:
    """What the list says of a session. `passed` and `elapsed` are seconds, as of now."""

    session: Session
    mode: str
    chip: Chip
    passed: int
    runs: int
    elapsed: int | None
    ticking: bool
    cost: str

    @property
    def ago(self) -> str:
        return ago(self.passed)

    @property
    def clock(self) -> str:
        return clock(self.elapsed or 0)

    @property
    def mark(self) -> str:
        """Changes with what is shown, but for what passes by itself."""
        elapsed = "" if self.ticking else str(self.elapsed)
        shown = (self.session.pk, self.session.name, self.session.updated_at, self.chip, self.cost)
        return repr((shown, self.runs, elapsed))


def _row(session: Session, run: Run | None, cost: str, now: datetime) -> Row:
    return Row(
        session=session,
        mode=mode_label(session),
        chip=make_chip(run),
        passed=int((now - session.updated_at).total_seconds()),
        runs=run.number if run else 0,
        elapsed=_elapsed(run, now),
        ticking=run is not None and run.status == RunStatus.RUNNING,
        cost=cost,
    )


def _elapsed(run: Run | None, now: datetime) -> int | None:
    """None while it stands still: how long it took is known when it ends."""
    if run is None or run.started_at is None:
        return None
    end = now if run.status == RunStatus.RUNNING else run.finished_at
    return int((end - run.started_at).total_seconds()) if end else None


def _page_context(request: PageRequest, found: SessionQuerySet) -> dict[str, Any]:
    newest_first = found.select_related("owner").order_by("-updated_at", "id")
    page = Paginator(newest_first, PAGE_SIZE).get_page(request.GET.get("page"))
    rows = _rows(list(page.object_list))
    return {
        "page": page,
        "rows": rows,
        "filtered": any(request.GET.get(name) for name in FilterForm.base_fields),
        "here": _address(request),
        "seen": _digest([str(page.number), str(page.paginator.count), *(r.mark for r in rows)]),
        "live_seconds": LIVE_SECONDS,
        "previous_page": _address(request, page=page.number - 1),
        "next_page": _address(request, page=page.number + 1),
    }


def _rows(sessions: Sequence[Session]) -> list[Row]:
    runs, costs, now = _last_runs(sessions), _costs(sessions), timezone.now()
    return [_row(each, runs.get(each.pk), costs.get(each.pk, ""), now) for each in sessions]


def _last_run_of(session: str) -> Any:
    return Run.objects.filter(session=OuterRef(session)).order_by("-number")


def _last_runs(sessions: Iterable[Session]) -> dict[uuid.UUID, Run]:
    last = _last_run_of("session").values("pk")[:1]
    ids = [session.pk for session in sessions]
    return {run.session_id: run for run in Run.objects.filter(session__in=ids, pk=Subquery(last))}


def _costs(sessions: Iterable[Session]) -> dict[uuid.UUID, str]:
    """Of all its runs, in words; nothing is said where no model was asked."""
    calls = Usage.objects.filter(run__session__in=[session.pk for session in sessions])
    sums = calls.values("run__session").annotate(
        usd=Sum("cost_usd"), unknown=Count("pk", filter=Q(cost_usd__isnull=True))
    )
    return {row["run__session"]: _cost(row["usd"], row["unknown"]) for row in sums}


def _cost(usd: Decimal | None, unknown: int) -> str:
    return "cost unknown" if unknown else money(usd)


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _address(request: PageRequest, **changes: int) -> str:
    """Of this list, without what only a fragment says."""
    query = request.GET.copy()
    query.pop("seen", None)
    for name, value in changes.items():
        query[name] = str(value)
    return f"{request.path}?{query.urlencode()}"
