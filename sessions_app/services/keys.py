"""Ways in: API tokens for programs, sign-in links for people. Only digests are stored."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from sessions_app.errors import LinkInvalid
from sessions_app.hints import send_recheck_on_commit
from sessions_app.models import ApiToken, SignInLink

LINK_LIFETIME = timedelta(minutes=10)
_USE_NOTED_EVERY = timedelta(minutes=1)  # not a write per request


def digest(secret: str) -> str:
    """SHA-256; the secrets are random and long, so no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create_token(*, user: User, name: str = "", expires_at: datetime | None = None) -> str:
    """A new token, shown only now."""
    token = f"cmb_{secrets.token_urlsafe(32)}"
    ApiToken.objects.create(user=user, name=name, digest=digest(token), expires_at=expires_at)
    return token


def find_token(token: str) -> ApiToken | None:
    """The usable token of an active user, or None."""
    found = (
        ApiToken.objects.usable()
        .select_related("user")
        .filter(digest=digest(token), user__is_active=True)
        .first()
    )
    if found is not None:
        _note_use(found)
    return found


def _note_use(token: ApiToken) -> None:
    now = timezone.now()
    if token.last_used_at is None or token.last_used_at < now - _USE_NOTED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


def revoke_token(token: ApiToken) -> bool:
    """From now on it lets nobody in, and whom it had let in is cut."""
    revoked = ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(
        revoked_at=timezone.now()
    )
    send_recheck_on_commit(token.user_id)
    return bool(revoked)


def create_sign_in_link(user: User) -> str:
    """The secret of a link that signs this user in once, within ten minutes."""
    secret = secrets.token_urlsafe(32)
    SignInLink.objects.create(
        user=user, digest=digest(secret), expires_at=timezone.now() + LINK_LIFETIME
    )
    return secret


def redeem_sign_in_link(secret: str) -> User:
    """Whom the link signs in; it is spent by this call. Raises LinkInvalid."""
    now = timezone.now()
    usable = SignInLink.objects.filter(
        digest=digest(secret), used_at__isnull=True, expires_at__gt=now, user__is_active=True
    )
    link = usable.select_related("user").first()
    if link is None or not usable.update(used_at=now):
        raise LinkInvalid
    return link.user
