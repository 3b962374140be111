"""The list of sessions, and the page that makes one."""

from __future__ import annotations

import hashlib
import textwrap
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.paginator import Paginator
from django.db.models import OuterRef, Subquery
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods
from django.views.decorators.vary import vary_on_headers

from execution_app.errors import TaskInvalid
from execution_app.model_choice import model_name_for
from execution_app.models import Run
from execution_app.services import start_run
from sessions_app.errors import ConfigInvalid
from sessions_app.forms import FilterForm, NewSessionForm
from sessions_app.models import Session, SessionQuerySet
from sessions_app.modes import MODES, NO_MODEL
from sessions_app.rendering.entries import ago
from sessions_app.services import Answer, Ask, answer_once, create_session
from sessions_app.views.access import PageRequest, SeeOther, for_members
from sessions_app.views.context import Chip, make_chip, mode_label

PAGE_SIZE = 25


@require_GET
@for_members
def home(request: PageRequest) -> HttpResponse:
    return redirect("sessions:list")


@require_GET
@for_members
@vary_on_headers("HX-Request")
def list_sessions(request: PageRequest) -> HttpResponse:
    form = FilterForm(request.GET)
    valid = form.is_valid()
    found = _filtered(Session.objects.visible_to(request.user), form.cleaned_data)
    context = {"form": form, "section": "sessions", **_page_context(request, found)}
    fragment = request.htmx and not request.htmx.history_restore_request
    template = "sessions/_list.html" if fragment else "sessions/list.html"
    return render(request, template, context, status=200 if valid else 422)


def _filtered(sessions: SessionQuerySet, wanted: dict[str, Any]) -> SessionQuerySet:
    if status := wanted.get("status"):
        sessions = sessions.filter(status=status)
    if words := wanted.get("q"):
        sessions = sessions.filter(name__icontains=words)
    return sessions


@dataclass(frozen=True)
class Row:
    session: Session
    mode: str
    chip: Chip
    ago: str


def _row(session: Session, run: Run | None, now: datetime) -> Row:
    passed = (now - session.updated_at).total_seconds()
    return Row(session, mode_label(session), make_chip(run), ago(passed))


def _page_context(request: PageRequest, found: SessionQuerySet) -> dict[str, Any]:
    newest_first = found.select_related("owner").order_by("-updated_at", "id")
    page = Paginator(newest_first, PAGE_SIZE).get_page(request.GET.get("page"))
    runs, now = _last_runs(page.object_list), timezone.now()
    return {
        "page": page,
        "rows": [_row(session, runs.get(session.pk), now) for session in page],
        "filtered": bool(request.GET.get("q") or request.GET.get("status")),
        "here": request.get_full_path(),
        "previous_page": _page_url(request, page.number - 1),
        "next_page": _page_url(request, page.number + 1),
    }


def _last_runs(sessions: Iterable[Session]) -> dict[uuid.UUID, Run]:
    last = Run.objects.filter(session=OuterRef("session")).order_by("-number").values("pk")[:1]
    ids = [session.pk for session in sessions]
    return {run.session_id: run for run in Run.objects.filter(session__in=ids, pk=Subquery(last))}


def _page_url(request: PageRequest, number: int) -> str:
    query = request.GET.copy()
    query["page"] = str(number)
    return f"{request.path}?{query.urlencode()}"


# -- a new session ----------------------------------------------------------------------------
@require_http_methods(["GET", "HEAD", "POST"])
@for_members
def new_session(request: PageRequest) -> HttpResponse:
    if request.method != "POST":
        return _new_page(request, NewSessionForm(initial=_initial(request)))
    form = NewSessionForm(request.POST)
    if form.is_valid() and (session_id := _start(form, request)):
        return SeeOther(reverse("sessions:detail", args=[session_id]))
    return _new_page(request, form, status=422)


def _new_page(request: PageRequest, form: NewSessionForm, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "section": "new",
        "modes": list(MODES.values()),
        "connected_model": _connected_model(),
        "examples": [{"task": task, "title": task.split("\n", 1)[0]} for task in _examples()],
    }
    return render(request, "sessions/new.html", context, status=status)


def _connected_model() -> str:
    """The one that runs use unless they name another; empty when none is connected."""
    try:
        name = model_name_for({})
    except ConfigInvalid:
        return ""
    return "" if name == NO_MODEL else name


def _examples() -> list[str]:
    return [example["task"] for mode in MODES.values() for example in mode.examples]


def _initial(request: PageRequest) -> dict[str, str]:
    initial = {"mode": next(iter(MODES))}
    number = request.GET.get("example", "")
    examples = dict(enumerate(_examples(), 1))
    if number.isdecimal() and int(number) in examples:
        initial["task"] = examples[int(number)]
    return initial


def _start(form: NewSessionForm, request: PageRequest) -> str | None:
    """The id of the session; None when the form now says what is wrong."""
    try:
        return _start_once(form, request)
    except TaskInvalid as refusal:
        form.add_error(refusal.field, refusal.message)
    except ConfigInvalid as refusal:
        form.refuse_config(refusal.fields)
    return None


def _first_words(task: str) -> str:
    """A name for a session whose owner gave none: how its task begins, unless that is code."""
    line = task.strip().split("\n", 1)[0].strip().rstrip(":.")
    return "" if line.startswith("```") else textwrap.shorten(line, 80, placeholder=" …")


def _start_once(form: NewSessionForm, request: PageRequest) -> str:
    """Start what the form says; the same page sent twice, unchanged, starts it once."""
    wanted = form.cleaned_data
    digest = hashlib.sha256(repr(sorted(wanted.items())).encode()).hexdigest()
    ask = Ask(request.user, f"page-{digest}", "POST", request.path, digest)

    def effect() -> Answer:
        name = wanted["name"] or _first_words(wanted["task"])
        session = create_session(
            owner=request.user, mode=wanted["mode"], name=name, config=form.config()
        )
        start_run(session=session, task=wanted["task"], by=request.user)
        return Answer(303, str(session.pk))

    return str(answer_once(ask, effect).content)
