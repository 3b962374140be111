"""Who may see a page, and what every page is told."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Concatenate, ParamSpec, cast
from urllib.parse import quote

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails
from structlog.contextvars import bind_contextvars

from sessions_app.models import Session

P = ParamSpec("P")


class PageRequest(HttpRequest):
    """A request of somebody signed in."""

    user: User
    htmx: HtmxDetails


class SeeOther(HttpResponseRedirect):
    status_code = 303  # whatever came, GET what is there


def sandbox_notice(request: HttpRequest) -> dict[str, bool]:
    """Context of every page: does executed code run without a sandbox here?"""
    return {"sandbox_accepted": settings.SANDBOX_ACCEPTED_LEVEL == 3}


def for_members(
    view: Callable[Concatenate[PageRequest, P], HttpResponseBase],
) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
    """Sends strangers to the sign-in page; from within a fragment the whole page goes there."""

    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(cast("PageRequest", request), *args, **kwargs)
        response = _to_the_door(request)
        patch_vary_headers(response, ["HX-Request"])
        return response

    return guarded


def _to_the_door(request: HttpRequest) -> HttpResponse:
    if htmx := HtmxDetails(request):
        here = _page_of(htmx)
        return HttpResponseClientRedirect(f"{reverse(settings.LOGIN_URL)}?next={quote(here)}")
    return redirect_to_login(request.get_full_path())


def _page_of(htmx: HtmxDetails) -> str:
    try:
        return htmx.current_url_abs_path or "/"
    except ValueError:  # what a stranger calls an address
        return "/"


def get_session(request: PageRequest, session_id: uuid.UUID) -> Session:
    """The session, if this person may see it; else it does not exist."""
    bind_contextvars(session_id=str(session_id))
    visible = Session.objects.visible_to(request.user).select_related("owner")
    return get_object_or_404(visible, pk=session_id)
