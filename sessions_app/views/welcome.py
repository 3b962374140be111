"""The first page: what this does, whether it is ready, and how a model is connected."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_POST

from execution_app.model_choice import models_for
from execution_app.model_trial import TrialFailed, TrialRefused, try_model
from execution_app.readiness import readiness
from sessions_app.errors import ConfigInvalid
from sessions_app.modes import NO_MODEL
from sessions_app.rendering.entries import money
from sessions_app.views.access import PageRequest, for_members
from sessions_app.views.beginning import connected_model, examples
from sessions_app.views.context import SANDBOX_WORDS

LIVE_SECONDS = 3


@require_GET
@for_members
def show_welcome(request: PageRequest) -> HttpResponse:
    context = {
        "section": "welcome",
        "first": examples()[0],
        "once": uuid.uuid4(),
        "others": examples()[1:],
        **_state(),
    }
    return render(request, "sessions/welcome.html", context)


@require_GET
@for_members
def show_state(request: PageRequest) -> HttpResponse:
    return render(request, "sessions/_welcome_state.html", _state())


def _state() -> dict[str, Any]:
    ready = readiness()
    return {
        "ready": ready,
        "sandbox_words": SANDBOX_WORDS.get(ready.sandbox_level or 0, ""),
        "connected_model": connected_model(),
        "model_problem": _model_problem(),
        "live_seconds": LIVE_SECONDS,
    }


def _model_problem() -> str:
    try:
        models_for({})
    except ConfigInvalid as refusal:
        return ". ".join(refusal.fields.values())
    return ""


# -- a question to the model ------------------------------------------------------------------
@require_POST
@for_members
def try_the_model(request: PageRequest) -> HttpResponse:
    """Any member may: a run of theirs would ask the same model, and more of it."""
    context, status = _trial(request)
    fragment = "sessions/_model_trial.html"
    if request.htmx:
        return render(request, fragment, context, status=status)
    page = {"section": "welcome", "first": examples()[0], "once": uuid.uuid4(), **_state()}
    return render(request, "sessions/welcome.html", page | context, status=status)


def _trial(request: PageRequest) -> tuple[dict[str, Any], int]:
    try:
        trial = try_model("engineer", by=request.user)
    except ConfigInvalid as refusal:
        return {"trial_error": ". ".join(refusal.fields.values())}, 422
    except TrialRefused as refusal:
        return {"trial_error": str(refusal)}, 429
    except TrialFailed as failure:
        return {"trial_error": failure.message, "trial": failure}, 422
    if trial is None:
        return {"trial_error": f"No model is connected ({NO_MODEL}): there is nobody to ask."}, 422
    cost = money(trial.cost_usd) if trial.cost_usd is not None else ""
    return {"answered": trial, "trial_cost": cost}, 200
