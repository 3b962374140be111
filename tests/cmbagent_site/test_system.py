"""How the server is doing: staff see it, nobody else, and no secret is among it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from cmbagent.models.choosing import ModelEnvironment
from execution_app.models import Run
from execution_app.statuses import RunStatus
from sessions_app.models import Server
from sessions_app.services import register_server
from tests.conftest import MakeRun, MakeSession

pytestmark = pytest.mark.django_db

PATHS = ["/system/", "/system/_state/"]


@pytest.fixture
def tab(client: Client, staff: User) -> Client:
    client.force_login(staff)
    return client


@pytest.mark.parametrize("path", PATHS)
def test_members_find_nothing_here(client: Client, alice: User, path: str) -> None:
    client.force_login(alice)
    assert client.get(path).status_code == 404
    assert "/system/" not in client.get("/sessions/").text


@pytest.mark.parametrize("path", PATHS)
def test_a_visitor_is_sent_to_sign_in(client: Client, path: str) -> None:
    assert client.get(path).headers["Location"].startswith("/sign-in/")


def test_staff_have_it_in_their_menu(tab: Client) -> None:
    assert 'href="/system/"' in tab.get("/sessions/").text


def test_processes_are_shown_by_their_heartbeat(tab: Client) -> None:
    lost = register_server(kind=Server.Kind.WEB)
    Server.objects.filter(pk=lost.pk).update(last_heartbeat=timezone.now() - timedelta(hours=2))
    register_server(kind=Server.Kind.WORKER)
    Server.objects.filter(kind="worker").update(
        sandbox_level=2, sandbox_report="level 2: ok", draining_at=timezone.now()
    )
    text = tab.get("/system/").text
    for said in (">lost<", ">draining<", "level 2", "level 2: ok", str(lost.pid), "2 h ago"):
        assert said in text


def test_the_queue_says_how_long_its_oldest_waits(
    tab: Client, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    assert "Nothing waits for a worker" in tab.get("/system/").text
    run = make_run(make_session(alice), status=RunStatus.QUEUED)
    Run.objects.filter(pk=run.pk).update(queued_at=timezone.now() - timedelta(minutes=7))
    assert "queued 7 min ago" in tab.get("/system/").text


def test_failures_lead_to_the_session_and_the_admin(
    tab: Client, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice, name="Lensing")
    run = make_run(
        session, status=RunStatus.FAILED, error_type="crash_loop", error_message="It died."
    )
    text = tab.get("/system/").text
    for said in ("crash_loop", "It died.", f"/sessions/{session.pk}/"):
        assert said in text
    admin = f"/admin/execution_app/run/{run.pk}/change/"
    assert admin in text


def test_models_are_named_and_keys_are_not(tab: Client, settings: Settings) -> None:
    settings.MODEL_ENVIRONMENT = ModelEnvironment(
        {"CMBAGENT_MODEL": "gpt-4o", "OPENAI_API_KEY": "sk-very-secret"}
    )
    text = tab.get("/system/").text
    assert "gpt-4o" in text
    assert "sk-very-secret" not in text


def test_what_is_missing_is_said(tab: Client) -> None:
    text = tab.get("/system/_state/").text
    assert "Not ready: worker" in text
    assert "<html" not in text


def test_it_costs_the_same_however_much_there_is(
    tab: Client,
    alice: User,
    make_session: MakeSession,
    make_run: MakeRun,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(12):
        make_run(make_session(alice), status=RunStatus.FAILED)
    with django_assert_max_num_queries(22):
        tab.get("/system/_state/")
