"""The one place that removes: what was deleted long enough ago goes, in small transactions.

Nobody sees a deleted session, so nothing here hurries, and a removal that is interrupted goes on
at the next one: the session's own row goes last.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import router, transaction
from django.db.models import Max, Q
from django.utils import timezone

from sessions_app.models import Event, PasswordTry, Session, SessionQuerySet, SignInLink
from sessions_app.services.tries import WINDOW

EVENTS_AT_ONCE = 2_000


def sessions_deleted_before(moment: datetime) -> SessionQuerySet:
    return Session.objects.filter(deleted_at__lt=moment).order_by("deleted_at", "pk")


def erase_session(session: Session) -> int:
    """Remove the log and the row of a deleted session; how many events it had.

    Its runs and files must be gone (execution_app's erase_runs): the database insists.
    """
    if session.deleted_at is None:
        raise ValueError("only a deleted session is erased")
    count = _erase_events(session.pk)
    session.delete()
    return count


def _erase_events(session_id: uuid.UUID) -> int:
    """Events refuse `delete`; this is the exception. A few at a time: readers and writers of
    other sessions go on."""
    events = Event.objects.filter(session_id=session_id)
    last = events.aggregate(last=Max("seq"))["last"] or 0
    count = 0
    for upper in range(EVENTS_AT_ONCE, last + EVENTS_AT_ONCE, EVENTS_AT_ONCE):
        with transaction.atomic():
            count += events.filter(seq__lte=upper)._raw_delete(router.db_for_write(Event))
    return count


def forget_spent_links() -> int:
    """Remove sign-in links that let nobody in any more."""
    spent = Q(used_at__isnull=False) | Q(expires_at__lte=timezone.now())
    return SignInLink.objects.filter(spent).delete()[0]


def forget_old_tries() -> int:
    """Remove tries of passwords that count no longer."""
    return PasswordTry.objects.filter(created_at__lte=timezone.now() - WINDOW).delete()[0]
