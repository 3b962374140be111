"""Who asks over REST, and what they may see: permission is in the fetch, hidden is 404."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf
from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from sessions_app.models import Session
from sessions_app.services import find_token


class ApiRequest(HttpRequest):
    """A request whose caller is known."""

    user: User


class NotVisible(Exception):
    """There is no such thing, or the caller may not know of it: the same answer for both."""


class CsrfFailed(Exception):
    """The cookie alone does not prove that a page of ours asked: send X-CSRFToken with it."""


class BearerToken(HttpBearer):
    """`Authorization: Bearer <token>`, a token of create_token."""

    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        found = find_token(token)
        if found is None:
            return None
        request.user = found.user
        structlog.contextvars.bind_contextvars(user_id=found.user.pk)
        return found.user


class SignedInCookie(APIKeyCookie):
    """The login cookie of the pages, with CSRF on whatever changes something."""

    param_name = settings.SESSION_COOKIE_NAME

    def __call__(self, request: HttpRequest) -> User | None:
        if "Authorization" in request.headers:
            return None  # who shows a token is judged by it, not by a cookie beside it
        if not isinstance(request.user, User) or not request.user.is_active:
            return None
        if check_csrf(request) is not None:
            raise CsrfFailed
        return request.user

    def authenticate(self, request: HttpRequest, key: str | None) -> None:
        """Not used: `__call__` does all of it."""


def parsed_id(value: Any) -> uuid.UUID:
    """A UUID as we write it. Raises NotVisible: what is no id names nothing."""
    try:
        parsed = uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise NotVisible from None
    if str(parsed) != str(value).lower():
        raise NotVisible  # braces, urn: and the like would be second names of one thing
    return parsed


def caller_of(info: ValidationInfo) -> User:
    """Whose request is being validated; it is authenticated before anything of it is read."""
    user: User = info.context["request"].user  # type: ignore[index]  # ninja always gives it
    return user


def _find_session(value: Any, info: ValidationInfo) -> Session:
    session_id = parsed_id(value)
    found = (
        Session.objects.visible_to(caller_of(info))
        .select_related("sessionstate")
        .filter(pk=session_id)
        .first()
    )
    if found is None:
        raise NotVisible
    structlog.contextvars.bind_contextvars(session_id=str(session_id))
    return found


# A path parameter that is fetched, for its caller, before the body of the request is looked at:
# a stranger learns nothing from what a body is answered with.
VisibleSession = Annotated[
    Session, PlainValidator(_find_session), WithJsonSchema({"type": "string", "format": "uuid"})
]
