"""The list of sessions: what a row says, what a filter shows, what asking again costs."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from execution_app.models import Usage
from execution_app.services import pause_run
from execution_app.statuses import RunStatus
from sessions_app.models import Session
from tests.conftest import MakeRun, MakeSession

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


@pytest.fixture
def tab(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def row_of(text: str, session: Session) -> str:
    found = re.search(rf'<li id="session-{session.pk}">.*?</li>', text, re.DOTALL)
    assert found
    return found[0]


def seen_of(text: str) -> str:
    found = re.search(r"seen=(\w+)", text)
    assert found
    return found[1]


# -- a row ------------------------------------------------------------------------------------
def test_a_row_says_what_the_last_task_took_and_all_cost(
    tab: Client, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session, now = make_session(alice), timezone.now()
    first = make_run(session, status=RunStatus.FAILED)
    ended = {"started_at": now - timedelta(seconds=95), "finished_at": now}
    make_run(session, status=RunStatus.COMPLETED, **ended)
    used = {"agent": "engineer", "provider": "openai", "model": "m", "cached_tokens": 0}
    Usage.objects.create(run=first, key="a", input_tokens=1, output_tokens=1, cost_usd="2", **used)
    row = row_of(tab.get("/sessions/").text, session)
    for said in ("Completed", "2 runs", "took 1:35", "$2.00"):
        assert said in row
    Usage.objects.create(run=first, key="b", input_tokens=1, output_tokens=1, **used)
    assert "cost unknown" in row_of(tab.get("/sessions/").text, session)


def test_a_running_one_counts_on(
    tab: Client, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    begun = timezone.now() - timedelta(seconds=3700)
    make_run(session, status=RunStatus.RUNNING, started_at=begun)
    assert re.search(r'data-runs="370\d"', row_of(tab.get("/sessions/").text, session))


def test_staff_see_whose_it_is(
    client: Client, staff: User, alice: User, make_session: MakeSession
) -> None:
    theirs, own = make_session(alice), make_session(staff)
    client.force_login(staff)
    text = client.get("/sessions/").text
    assert "<span>alice</span>" in row_of(text, theirs)
    assert "<span>staff</span>" not in row_of(text, own)


# -- filters ----------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [*RunStatus.values, "none"])
def test_a_status_is_that_of_the_last_task(
    tab: Client, alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    for each in RunStatus.values:
        session = make_session(alice, name=f"is {each}.")
        make_run(session, status=RunStatus.FAILED)
        make_run(session, status=each)
    make_session(alice, name="is none.")
    text = tab.get("/sessions/", {"status": status}).text
    assert re.findall(r"<b>is (\w+)\.</b>", text) == [status]


def test_a_mode(tab: Client, alice: User, make_session: MakeSession) -> None:
    old = make_session(alice, name="of a mode that is gone")
    Session.objects.filter(pk=old.pk).update(mode="earlier")
    make_session(alice, name="Walk")
    text = tab.get("/sessions/", {"mode": "one-shot"}).text
    assert "Walk" in text
    assert "of a mode that is gone" not in text
    assert tab.get("/sessions/", {"mode": "telepathy"}).status_code == 422


# -- asked again ------------------------------------------------------------------------------
def test_what_looks_as_it_did_is_204(
    tab: Client, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    run = make_run(make_session(alice), status=RunStatus.RUNNING, started_at=timezone.now())
    seen = seen_of(tab.get("/sessions/").text)
    answer = tab.get("/sessions/", {"seen": seen}, headers=HTMX)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "HX-Request" in answer.headers["Vary"]
    pause_run(run, by=alice)  # of this the session's row says nothing
    answer = tab.get("/sessions/", {"seen": seen}, headers=HTMX)
    assert answer.status_code == 200
    assert "Pausing" in answer.text
    assert seen_of(answer.text) != seen


def test_somebody_who_opens_the_address_gets_a_page(tab: Client) -> None:
    seen = seen_of(tab.get("/sessions/").text)
    answer = tab.get("/sessions/", {"seen": seen})
    assert "<html" in answer.text
    assert answer.text.count(f"seen={seen}") == 1


def test_filters_cost_no_more_however_many_there_are(
    tab: Client,
    alice: User,
    make_session: MakeSession,
    make_run: MakeRun,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(30):
        make_run(make_session(alice))
    with django_assert_max_num_queries(6):
        text = tab.get("/sessions/", {"status": "completed", "mode": "one-shot", "q": "one"}).text
    assert "1–25 of 30" in text  # noqa: RUF001  as people write ranges
