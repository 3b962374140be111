"""What the templates of a session show: read from its rows, never written."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.urls import reverse
from django.utils import timezone

from execution_app.model_choice import model_name_for
from execution_app.models import Artifact, Run, Usage
from execution_app.services import artifact_file
from execution_app.statuses import RunStatus
from sessions_app.console.failures import failures_of
from sessions_app.console.pages import read_tail
from sessions_app.errors import ConfigInvalid
from sessions_app.models import Event, Server, Session
from sessions_app.modes import MODES, NO_MODEL
from sessions_app.rendering.entries import (
    DRAFT_TYPES,
    ENDS_OF_TALK,
    TALK_TYPES,
    Draft,
    clock,
    money,
    read_drafts,
)
from sessions_app.rendering.pictures import picture_size
from sessions_app.rendering.pieces import talk_html
from sessions_app.views.files import bytes_url, page_url
from sessions_app.views.plan import plan_context

PAGE_OF_TALK = 200  # entries at once
_NEAR = 5000  # events that are walked over
_DRAFT_EVENTS = 2000  # of a message that is being written; a model ends before that
_RUNS_SHOWN = 50
_FILES_SHOWN = 500
SANDBOX_WORDS = {
    1: "level 1, bubblewrap",
    2: "level 2, Landlock and seccomp",
    3: "level 3, limits only",
}
Context = dict[str, Any]


@dataclass(frozen=True)
class Chip:
    """A status in one word. `tone` is a class of app.css; amber (wait) only waits for a person."""

    label: str
    tone: str = ""
    moving: bool = False


CHIPS = {
    RunStatus.QUEUED: Chip("Queued", "run", moving=True),
    RunStatus.RUNNING: Chip("Running", "run", moving=True),
    RunStatus.WAITING_APPROVAL: Chip("Waiting for you", "wait"),
    RunStatus.PAUSED: Chip("Paused"),
    RunStatus.COMPLETED: Chip("Completed", "ok"),
    RunStatus.FAILED: Chip("Failed", "bad"),
    RunStatus.CANCELLED: Chip("Stopped"),
}


def make_chip(run: Run | None) -> Chip:
    if run is None:
        return Chip("No task yet")
    if run.is_stopping:
        return Chip("Stopping", "run", moving=True)
    if is_pausing(run):
        return Chip("Pausing", "run", moving=True)
    if is_postponed(run):
        return Chip("Postponed", "run")
    return CHIPS[RunStatus(run.status)]


def is_pausing(run: Run) -> bool:
    return run.status == RunStatus.RUNNING and run.pause_requested_at is not None


def is_postponed(run: Run) -> bool:
    """Something is in its way that goes by; it goes on by itself at `not_before`."""
    due = run.not_before is None or run.not_before <= timezone.now()
    return run.status == RunStatus.QUEUED and run.postponements > 0 and not due


def mode_label(session: Session) -> str:
    mode = MODES.get(session.mode)
    return mode.label if mode else session.mode


# -- status -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Act:
    """A button of the head of the page."""

    name: str
    label: str
    url: str
    disabled: bool = False


def status_context(session: Session) -> Context:
    found = Run.objects.filter(session=session).select_related("session")
    runs = list(found.order_by("-number")[:_RUNS_SHOWN])
    run = runs[0] if runs else None
    waits = run is not None and run.status == RunStatus.QUEUED
    costs = _costs(session)
    return {
        "session": session,
        "run": run,
        "runs": [_shown_run(item, costs) for item in runs],
        "costs": costs,
        "run_cost": money(_cost_of(run, costs)) if run else "",
        "model": model_of(run, session),
        "no_ai": run is not None and model_of(run, session) == NO_MODEL,
        "postponed_until": run.not_before if run and is_postponed(run) else None,
        "console_url": console_url(run) if run else "",
        "events_url": f"/api/sessions/{session.pk}/events",
        "chip": make_chip(run),
        "acts": _acts(session.pk, run),
        "is_settling": waits or (run is not None and (run.is_stopping or is_pausing(run))),
        "mode_label": mode_label(session),
        "no_worker": waits and not _is_worker_alive(),
        "failures": failures_of(session.pk),
        **plan_context(run),
        **_elapsed(run),
    }


@dataclass(frozen=True)
class ShownRun:
    run: Run
    model: str
    sandbox: str
    cost: str
    console_url: str


def _shown_run(run: Run, costs: Sequence[CostRow]) -> ShownRun:
    sandbox = SANDBOX_WORDS.get(run.sandbox_level or 0, "")
    cost = money(_cost_of(run, costs))
    return ShownRun(run, model_of(run, run.session), sandbox, cost, console_url(run))


def model_of(run: Run | None, session: Session) -> str:
    """Whose words a run's are: told by its last attempt, before the first by what is set up."""
    if run is not None and run.attempt:
        return run.model or NO_MODEL  # it began before models were known here
    try:
        return model_name_for(run.config if run is not None else session.config)
    except ConfigInvalid:  # the operator took it away since
        return "not connected"


# -- cost -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class CostRow:
    """What the calls of one model in one run took; `usd` None: nobody knows the price."""

    run_id: uuid.UUID
    number: int
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    usd: Decimal | None

    @property
    def cost(self) -> str:
        return money(self.usd)

    @property
    def tokens_in(self) -> str:
        return f"{self.input_tokens:,}"

    @property
    def tokens_out(self) -> str:
        return f"{self.output_tokens:,}"


def _costs(session: Session) -> list[CostRow]:
    calls = Usage.objects.filter(run__session=session).values("run_id", "run__number", "model")
    sums = calls.annotate(
        n=Count("pk"),
        sent=Sum("input_tokens"),
        got=Sum("output_tokens"),
        usd=Sum("cost_usd"),
        unknown=Count("pk", filter=Q(cost_usd__isnull=True)),
    ).order_by("-run__number", "model")
    return [
        CostRow(
            run_id=row["run_id"],
            number=row["run__number"],
            model=row["model"],
            calls=row["n"],
            input_tokens=row["sent"],
            output_tokens=row["got"],
            usd=None if row["unknown"] else row["usd"],
        )
        for row in sums[:_RUNS_SHOWN]
    ]


def _cost_of(run: Run, costs: Iterable[CostRow]) -> Decimal | None:
    """Of all its calls; None when it is unknown for one."""
    found = [row.usd for row in costs if row.run_id == run.pk]
    return None if None in found else sum((usd for usd in found if usd is not None), Decimal(0))


def console_url(run: Run) -> str:
    """The whole console as text, with a line that says whose words it follows from."""
    return f"/api/runs/{run.pk}/console?about=true"


def _is_worker_alive() -> bool:
    return Server.objects.alive().filter(kind=Server.Kind.WORKER).exists()


def _elapsed(run: Run | None) -> Context:
    if run is None or run.started_at is None:
        return {"ticking": False, "elapsed_clock": "not begun"}
    seconds = int(((run.finished_at or timezone.now()) - run.started_at).total_seconds())
    ticking = run.status == RunStatus.RUNNING
    return {"ticking": ticking, "elapsed": seconds, "elapsed_clock": clock(seconds)}


def _acts(session_id: uuid.UUID, run: Run | None) -> list[Act]:
    return [
        Act(name, label, reverse(f"sessions:{name}", args=[session_id]), disabled)
        for name, label, disabled in _possible_acts(run)
    ]


def _possible_acts(run: Run | None) -> Iterable[tuple[str, str, bool]]:
    if run is None:
        return
    if run.status == RunStatus.PAUSED:
        yield "resume", "Resume", False
    elif run.is_live and not run.is_stopping:
        yield "pause", "Pausing" if is_pausing(run) else "Pause", is_pausing(run)
    if run.is_live:
        yield "stop", "Stopping" if run.is_stopping else "Stop", run.is_stopping
    elif run.status in {RunStatus.FAILED, RunStatus.CANCELLED}:
        yield "retry", "Retry", False


# -- files ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class File:
    id: int
    path: str
    kind: str
    size: int
    url: str
    page_url: str
    width: int | None = None
    height: int | None = None


def files_context(session: Session) -> Context:
    found = Artifact.objects.filter(session=session)
    shown = found.order_by("-run__number", "path")[:_FILES_SHOWN]
    plots = found.filter(kind="plot", run__isnull=False).order_by("-run__number", "-pk")
    return {
        "session": session,
        "files": [_file(artifact) for artifact in shown],
        "files_count": found.count(),
        "plots": [_plot(artifact) for artifact in plots[:_FILES_SHOWN]],
    }


def _file(artifact: Artifact) -> File:
    return File(
        artifact.pk,
        artifact.path,
        artifact.kind,
        artifact.size,
        bytes_url(artifact),
        page_url(artifact),
    )


def _plot(artifact: Artifact) -> File:
    width, height = picture_size(artifact_file(artifact)) or (None, None)
    return replace(_file(artifact), width=width, height=height)


# -- what happened ----------------------------------------------------------------------------
def talk_before(session: Session, seq: int) -> Context:
    """The page of the conversation before an event, and whether there is one before that."""
    newest = _talk(session, seq)
    shown = newest[:PAGE_OF_TALK][::-1]
    return {
        "entries": talk_html(shown),
        "earlier": shown[0].seq if len(newest) > PAGE_OF_TALK else None,
    }


def _talk(session: Session, before: int) -> list[Event]:
    """Newest first, one more than a page. Where a log is mostly output they are far apart: then the
    index on run and type finds them, not a walk over all that was printed."""
    talk = Event.objects.filter(event_type__in=TALK_TYPES, seq__lt=before).order_by("-seq")
    near = list(talk.filter(session=session, seq__gte=before - _NEAR)[: PAGE_OF_TALK + 1])
    if len(near) > PAGE_OF_TALK or before <= _NEAR:
        return near
    runs = list(Run.objects.filter(session=session).values_list("pk", flat=True))
    return list(talk.filter(run_id__in=runs)[: PAGE_OF_TALK + 1])


def session_context(session: Session) -> Context:
    """The whole page as of `session.last_seq`; the socket goes on from there without a seam."""
    last = Event.objects.filter(session=session, seq__gt=session.last_seq - _NEAR)
    piece = read_tail(session.pk, until=session.last_seq)
    return {
        **status_context(session),
        **files_context(session),
        **talk_before(session, session.last_seq + 1),
        "section": "sessions",
        "drafts": _drafts(last.filter(seq__lte=session.last_seq).order_by("-seq")),
        "piece": piece,
        "last_line": f"{piece.last_line:,}" if piece.last_line else "",
        "until": session.last_seq,
    }


def _drafts(newest_first: QuerySet[Event]) -> list[Draft]:
    """What agents are saying just now; the events that follow on the socket continue it."""
    events = newest_first.filter(event_type__in=DRAFT_TYPES | ENDS_OF_TALK)[:_DRAFT_EVENTS]
    return read_drafts(events.iterator(chunk_size=100))
