"""The page that makes a session, and the page that shows how one begins."""

from __future__ import annotations

import hashlib
import json
import textwrap
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from execution_app.errors import TaskInvalid, UploadInvalid, UploadTooLarge
from execution_app.model_choice import model_name_for
from execution_app.services import begin_session
from sessions_app.errors import ConfigInvalid
from sessions_app.forms import NewSessionForm
from sessions_app.modes import MODES, NO_MODEL
from sessions_app.services import Ask
from sessions_app.views.access import PageRequest, SeeOther, for_members


@require_http_methods(["GET", "HEAD", "POST"])
@for_members
def new_session(request: PageRequest) -> HttpResponse:
    if request.method != "POST":
        return _new_page(request, NewSessionForm(initial=_initial(request)))
    form = NewSessionForm(request.POST, request.FILES)
    if form.is_valid() and (session_id := _start(form, request)):
        return SeeOther(reverse("sessions:detail", args=[session_id]))
    return _new_page(request, form, status=422)


def _new_page(request: PageRequest, form: NewSessionForm, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "section": "new",
        "modes": list(MODES.values()),
        "connected_model": connected_model(),
        "examples": examples(),
    }
    return render(request, "sessions/new.html", context, status=status)


def connected_model() -> str:
    """The one that runs use unless they name another; empty when none is connected."""
    try:
        name = model_name_for({})
    except ConfigInvalid:
        return ""
    return "" if name == NO_MODEL else name


def examples() -> list[dict[str, Any]]:
    """Of all modes, each with its number for `?example=` and the words it begins with."""
    found = [(mode.id, example) for mode in MODES.values() for example in mode.examples]
    return [
        {
            "number": number,
            "mode": mode,
            "task": example["task"],
            "config": json.dumps(example["config"]),
            "title": example["task"].split("\n", 1)[0].rstrip(":"),
        }
        for number, (mode, example) in enumerate(found, 1)
    ]


def _initial(request: PageRequest) -> dict[str, Any]:
    wanted = request.GET.get("example", "")
    for example in examples():
        if str(example["number"]) == wanted:
            settings = json.loads(example["config"])
            return {
                "mode": example["mode"],
                "task": example["task"],
                **NewSessionForm.initial_settings(example["mode"], settings),
            }
    return {"mode": next(iter(MODES))}


def _start(form: NewSessionForm, request: PageRequest) -> str | None:
    """The id of the session; None when the form now says what is wrong."""
    wanted = form.cleaned_data
    try:
        session = begin_session(
            ask=_ask(form, request),
            mode=wanted["mode"],
            name=wanted["name"] or _first_words(wanted["task"]),
            config=form.config(),
            task=wanted["task"],
            files=[(str(file.name), file.chunks()) for file in wanted["uploads"]],
        )
    except TaskInvalid as refusal:
        form.add_error(refusal.field, refusal.message)
    except ConfigInvalid as refusal:
        form.refuse_config(refusal.fields)
    except (UploadInvalid, UploadTooLarge) as refusal:
        form.add_error("uploads", str(refusal))
    else:
        return session
    return None


def _first_words(task: str) -> str:
    """A name for a session whose owner gave none: how its task begins, unless that is code."""
    line = task.strip().split("\n", 1)[0].strip().rstrip(":.")
    return "" if line.startswith("```") else textwrap.shorten(line, 80, placeholder=" …")


def _ask(form: NewSessionForm, request: PageRequest) -> Ask:
    """The same page sent twice, unchanged, is one ask."""
    said = {name: value for name, value in form.cleaned_data.items() if name != "uploads"}
    said["uploads"] = [_digest(file) for file in form.cleaned_data["uploads"]]
    digest = hashlib.sha256(repr(sorted(said.items())).encode()).hexdigest()
    return Ask(request.user, f"page-{digest}", "POST", request.path, digest)


def _digest(file: UploadedFile[Any]) -> tuple[str | None, str]:
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return file.name, digest.hexdigest()
