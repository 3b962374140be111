"""One session: its page, the fragments that are fetched anew, the commands."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import HttpResponseClientRedirect

from execution_app import services
from execution_app.errors import ExecutionError, SessionBusy, TaskInvalid, UploadInvalid
from execution_app.models import Run
from execution_app.statuses import RunStatus
from sessions_app.errors import ConfigInvalid
from sessions_app.forms import TaskForm, UploadForm
from sessions_app.models import Session
from sessions_app.views.access import PageRequest, SeeOther, for_members, get_session
from sessions_app.views.context import (
    Context,
    files_context,
    session_context,
    status_context,
    talk_before,
)


# -- pages and fragments ----------------------------------------------------------------------
@require_GET
@for_members
def show_session(request: PageRequest, session_id: uuid.UUID) -> HttpResponse:
    session = get_session(request, session_id)
    return render(request, "sessions/session.html", session_context(session))


@require_GET
@for_members
def show_status(request: PageRequest, session_id: uuid.UUID) -> HttpResponse:
    session = get_session(request, session_id)
    return render(request, "sessions/_status_fragment.html", status_context(session))


@require_GET
@for_members
def show_talk(request: PageRequest, session_id: uuid.UUID) -> HttpResponse:
    """The page of entries before an event; 204 when there are none."""
    session = get_session(request, session_id)
    before = request.GET.get("before", "")
    if not (before.isascii() and before.isdecimal() and len(before) < 19):
        return HttpResponse("before: not a sequence number", status=400, content_type="text/plain")
    context = talk_before(session, int(before))
    status = 200 if context["entries"] else 204
    return render(request, "sessions/_talk.html", context, status=status)


@require_GET
@for_members
def show_plots(request: PageRequest, session_id: uuid.UUID) -> HttpResponse:
    context = files_context(get_session(request, session_id))
    return render(request, "sessions/_plots_fragment.html", context)


# -- commands ---------------------------------------------------------------------------------
class RunService(Protocol):
    def __call__(self, run: Run, /, *, by: User) -> Run: ...


def _said_of_stop(run: Run) -> str:
    return "Stopping: its processes are being ended." if run.is_live else "Stopped."


def _said_of_pause(run: Run) -> str:
    if run.status == RunStatus.PAUSED:
        return "Paused."
    return "Pausing: its processes are being ended; Resume lets it go on."


COMMANDS: dict[str, tuple[RunService, Callable[[Run], str]]] = {
    "stop": (services.cancel_run, _said_of_stop),
    "pause": (services.pause_run, _said_of_pause),
    "resume": (services.resume_run, lambda _: "Resumed: it goes on when a worker is free."),
    "retry": (services.retry_run, lambda _: "Trying again: it starts when a worker is free."),
}


@require_POST
@for_members
def command_run(request: PageRequest, session_id: uuid.UUID, command: str) -> HttpResponse:
    session = get_session(request, session_id)
    service, said = COMMANDS[command]
    try:
        runs = [service(run, by=request.user) for run in _meant(session, command)]
    except ExecutionError as refusal:
        return _answer_status(request, session_id, str(refusal), refused=True)
    if not runs:
        return _answer_status(request, session_id, "Nothing is running here.", refused=True)
    return _answer_status(request, session_id, said(runs[0]))


def _meant(session: Session, command: str) -> list[Run]:
    """Stop means all that is live (one run may wait for another's end), the others the last run."""
    runs = Run.objects.filter(session=session).order_by("-number")
    return list(runs.live() if command == "stop" else runs[:1])


def _answer_status(
    request: PageRequest, session_id: uuid.UUID, said: str, *, refused: bool = False
) -> HttpResponse:
    if not request.htmx:
        return _tell(request, session_id, said, refused=refused)
    context = status_context(get_session(request, session_id))
    context |= {"said": said, "refused": refused}
    status = 409 if refused else 200
    return render(request, "sessions/_status_fragment.html", context, status=status)


def _tell(
    request: PageRequest, session_id: uuid.UUID, said: str, *, refused: bool = False
) -> HttpResponse:
    (messages.error if refused else messages.success)(request, said)
    return SeeOther(reverse("sessions:detail", args=[session_id]))


@require_POST
@for_members
def delete(request: PageRequest, session_id: uuid.UUID) -> HttpResponse:
    session = get_session(request, session_id)
    services.delete_session(session, by=request.user)
    messages.success(request, f"Deleted “{session.name}”.")
    to = reverse("sessions:list")
    return HttpResponseClientRedirect(to) if request.htmx else SeeOther(to)


# -- a new task -------------------------------------------------------------------------------
@require_POST
@for_members
def start_run(request: PageRequest, session_id: uuid.UUID) -> HttpResponse:
    session = get_session(request, session_id)
    form = TaskForm(request.POST)
    status = _start(session, form, request.user) if form.is_valid() else 422
    if status == 303 and not request.htmx:
        return _tell(request, session_id, "Started.")
    fresh = get_session(request, session_id)
    if not request.htmx:
        context = session_context(fresh) | {"composer": form}
        return render(request, "sessions/session.html", context, status=status)
    context = status_context(fresh) | _composer_context(form, status)
    answered = 200 if status == 303 else status
    return render(request, "sessions/_composer_fragment.html", context, status=answered)


def _composer_context(form: TaskForm, status: int) -> Context:
    return {"composer_said": "Started."} if status == 303 else {"composer": form}


def _start(session: Session, form: TaskForm, by: User) -> int:
    """What to answer: 303 when the run is queued, else the form says what is wrong."""
    try:
        services.start_run(session=session, task=form.cleaned_data["task"], by=by)
    except SessionBusy:
        form.add_error(None, "A run of this session is live. Stop it or wait for its end.")
        return 409
    except TaskInvalid as refusal:
        form.add_error(refusal.field, refusal.message)
        return 422
    except ConfigInvalid as refusal:
        form.add_error(None, str(refusal))
        return 422
    return 303


# -- files ------------------------------------------------------------------------------------
@require_GET
@for_members
def show_files(request: PageRequest, session_id: uuid.UUID) -> HttpResponse:
    context = files_context(get_session(request, session_id))
    return render(request, "sessions/_files_fragment.html", context)


@require_POST
@for_members
def upload(request: PageRequest, session_id: uuid.UUID) -> HttpResponse:
    session = get_session(request, session_id)
    said, refused = _store(session, request)
    if not request.htmx:
        return _tell(request, session_id, said, refused=refused)
    context = files_context(session) | {"said": said, "refused": refused}
    status = 422 if refused else 200
    return render(request, "sessions/_files_fragment.html", context, status=status)


def _store(session: Session, request: PageRequest) -> tuple[str, bool]:
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return " ".join(str(problem) for problem in form.errors["file"]), True
    file = form.cleaned_data["file"]
    try:
        stored = services.store_upload(
            session, name=file.name, chunks=file.chunks(), by=request.user
        )
    except UploadInvalid as refusal:
        return str(refusal), True
    return f"Uploaded {stored.path}.", False
