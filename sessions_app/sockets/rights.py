"""Who is at the other end of a socket, and whether they may come in. Runs in a thread."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, parse_cookie

from sessions_app.models import Session
from sessions_app.services import find_token, open_connection

LoginSession: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore


class NotSignedIn(Exception):
    """Neither a valid token nor a valid login cookie."""


class SessionGone(Exception):
    """There is no such session for this user."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a socket showed at its handshake; asked again every now and then."""

    bearer: str | None
    cookie: str | None  # the key of a login

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> Credentials:
        found = {name.lower(): value.decode("latin1") for name, value in headers}
        scheme, _, token = found.get(b"authorization", "").partition(" ")
        cookies = parse_cookie(found.get(b"cookie", ""))
        return cls(
            bearer=token.strip() if scheme.lower() == "bearer" else None,
            cookie=cookies.get(settings.SESSION_COOKIE_NAME),
        )


def find_user(credentials: Credentials) -> User | None:
    """The active user with these credentials; a token that is shown counts alone."""
    if credentials.bearer is not None:
        token = find_token(credentials.bearer)
        return token.user if token else None
    return _user_of_login(credentials.cookie) if credentials.cookie else None


def _user_of_login(key: str) -> User | None:
    """As Django finds the user of a request, with its check that the password is the same."""
    request = HttpRequest()
    request.session = LoginSession(key)
    user = auth.get_user(request)
    return user if isinstance(user, User) else None


@dataclass(frozen=True, slots=True)
class Admitted:
    user: User
    connection_id: uuid.UUID


def admit(credentials: Credentials, session_id: uuid.UUID | None) -> Admitted:
    """Let a socket in, to the session of its path if it has one, and note its connection.

    Raises NotSignedIn, SessionGone, ConnectionLimitReached.
    """
    user = find_user(credentials)
    if user is None:
        raise NotSignedIn
    if session_id is not None and not is_visible(user, session_id):
        raise SessionGone
    return Admitted(user, open_connection(user=user, session_id=session_id).pk)


def is_visible(user: User, session_id: uuid.UUID) -> bool:
    return Session.objects.visible_to(user).filter(pk=session_id).exists()
