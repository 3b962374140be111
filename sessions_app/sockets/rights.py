"""Who is at the other end of a socket, and what they may see. Runs in a thread."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from importlib import import_module

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, parse_cookie

from sessions_app.models import Session
from sessions_app.services import find_token

LoginSession: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore


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


def find_users(shown: Set[Credentials]) -> dict[Credentials, int | None]:
    """The active user with each of these credentials; a token that is shown counts alone."""
    return {credentials: _find_user(credentials) for credentials in shown}


def _find_user(credentials: Credentials) -> int | None:
    if credentials.bearer is not None:
        token = find_token(credentials.bearer)
        return token.user_id if token else None
    return _user_of_login(credentials.cookie) if credentials.cookie else None


def _user_of_login(key: str) -> int | None:
    """As Django finds the user of a request, with its check that the password is the same."""
    request = HttpRequest()
    request.session = LoginSession(key)
    user = auth.get_user(request)
    return user.pk if isinstance(user, User) else None


@dataclass(frozen=True, slots=True)
class State:
    """Where a session's log is, and who of those that were asked for may see it."""

    epoch: str
    head: int
    viewers: frozenset[int]

    def with_head(self, head: int) -> State:
        return State(self.epoch, head, self.viewers)


def find_states(audiences: Mapping[uuid.UUID, Set[int]]) -> dict[uuid.UUID, State]:
    """Of many sessions at once, each with the users that want to see it.

    The rule of Session.objects.visible_to, for active users. What nobody of its audience may see
    is left out.
    """
    undeleted = Session.objects.filter(pk__in=list(audiences), deleted_at__isnull=True)
    rows = list(undeleted.values_list("pk", "epoch", "last_seq", "owner_id", "owner__is_active"))
    staff = _staff_among(
        {user for pk, _, _, owner, _ in rows for user in audiences[pk] if user != owner}
    )
    states = {
        pk: State(epoch, head, frozenset(audiences[pk] & (staff | {owner} if active else staff)))
        for pk, epoch, head, owner, active in rows
    }
    return {pk: state for pk, state in states.items() if state.viewers}


def _staff_among(user_ids: Set[int]) -> Set[int]:
    if not user_ids:
        return frozenset()
    staff = User.objects.filter(pk__in=list(user_ids), is_staff=True, is_active=True)
    return frozenset(staff.values_list("pk", flat=True))
