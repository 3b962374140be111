from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from execution_app.services import expire_sessions, start_run
from execution_app.statuses import LIVE
from sessions_app.models import Event, Session
from tests.conftest import MakeRun, MakeSession

pytestmark = pytest.mark.django_db
LATER = timedelta(hours=2)


@pytest.fixture(autouse=True)
def _an_hour(settings: Settings) -> None:
    settings.SESSION_TTL = 3600


def test_what_nobody_touched_expires_and_keeps_everything(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    make_run(session, status="completed")

    assert expire_sessions(now=timezone.now() + LATER) == 1

    session.refresh_from_db()
    assert session.status == "expired"
    assert Event.objects.filter(session=session).order_by("-seq")[0].event_type == "session_expired"
    assert session.run_set.count() == 1
    assert expire_sessions(now=timezone.now() + LATER) == 0


def test_it_counts_from_the_last_touch(alice: User, make_session: MakeSession) -> None:
    make_session(alice)

    assert expire_sessions(now=timezone.now() + timedelta(minutes=59)) == 0


@pytest.mark.parametrize("status", sorted(LIVE))
def test_what_is_live_does_not_expire(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    make_run(make_session(alice), status=status)

    assert expire_sessions(now=timezone.now() + LATER) == 0


def test_off_by_default(alice: User, make_session: MakeSession, settings: Settings) -> None:
    settings.SESSION_TTL = None
    make_session(alice)

    assert expire_sessions(now=timezone.now() + LATER) == 0


def test_an_expired_session_takes_a_new_task(alice: User, make_session: MakeSession) -> None:
    session = make_session(alice)
    expire_sessions(now=timezone.now() + LATER)

    start_run(session=Session.objects.get(pk=session.pk), task="go on", by=alice)

    assert Session.objects.get(pk=session.pk).status == "active"
