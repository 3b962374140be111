"""The same POST twice has one effect: its first answer is kept with the effect, for a day.

The key's row is written first in the effect's own transaction. The unique index on (user, key)
makes a second, simultaneous request wait until the first is committed (PostgreSQL; on SQLite
BEGIN IMMEDIATE does) and then finds its answer. A failed attempt is rolled back, key and all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from sessions_app.errors import SessionsError
from sessions_app.models import IdempotencyKey

KEPT_FOR = timedelta(hours=24)
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class KeyInvalid(SessionsError):
    """Idempotency-Key must be 1 to 200 visible ASCII characters without spaces."""


class KeyReused(SessionsError):
    """This Idempotency-Key was used for another request. Use a new key for each new request."""


@dataclass(frozen=True)
class Ask:
    """One request as its sender means it: a repetition equals it in every field."""

    user: User
    key: str
    method: str
    path: str
    body_digest: str


@dataclass(frozen=True)
class Answer:
    status_code: int
    content: str  # as text: PostgreSQL's JSON would give its fields back in another order


def check_key(key: str) -> None:
    """Raises KeyInvalid."""
    if not _KEY.fullmatch(key):
        raise KeyInvalid


def earlier_answer(ask: Ask) -> Answer | None:
    """What the same request was answered before. Raises KeyReused.

    For work that must not be done inside a transaction: look here before it, and still give the
    effect to `answer_once`.
    """
    row = IdempotencyKey.objects.filter(
        user=ask.user, key=ask.key, created_at__gt=timezone.now() - KEPT_FOR
    ).first()
    return None if row is None else _answer_of(row, ask)


def answer_once(ask: Ask, effect: Callable[[], Answer]) -> Answer:
    """The effect's answer, or the earlier one if this request was carried out. Raises KeyReused."""
    with transaction.atomic():
        forget_old_keys(user=ask.user, key=ask.key)
        row, ours = IdempotencyKey.objects.get_or_create(
            user=ask.user,
            key=ask.key,
            defaults={
                "method": ask.method,
                "path": ask.path,
                "body_digest": ask.body_digest,
            },
        )
        if not ours:
            return _answer_of(row, ask)
        answer = effect()
        row.status_code, row.answer = answer.status_code, answer.content
        row.save(update_fields=["status_code", "answer"])
    return answer


def forget_old_keys(**of: Any) -> int:
    """Remove keys that are kept no longer, all or some."""
    old = IdempotencyKey.objects.filter(created_at__lte=timezone.now() - KEPT_FOR, **of)
    return old.delete()[0]


def _answer_of(row: IdempotencyKey, ask: Ask) -> Answer:
    if (row.method, row.path, row.body_digest) != (ask.method, ask.path, ask.body_digest):
        raise KeyReused
    if row.status_code is None:
        raise AssertionError("a key is committed only together with its answer")
    return Answer(row.status_code, str(row.answer))
