"""The admin shows everything, types over nothing, and mends through services."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from execution_app.models import Artifact, JournalEntry, Step, Usage
from sessions_app.models import ApiToken, Connection, Event, IdempotencyKey, Server, Session
from sessions_app.services import create_sign_in_link, create_token, register_server
from tests.conftest import MakeRun, MakeSession

OURS = [m for m in admin.site._registry if m._meta.app_label in {"sessions_app", "execution_app"}]
EVERY_MODEL = pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)


@pytest.fixture
def desk(client: Client, alice: User, make_session: MakeSession, make_run: MakeRun) -> Client:
    """A signed-in operator, and one row of each table."""
    session = make_session(alice, name="Walk")
    run = make_run(session, status="queued")
    Artifact.objects.create(session=session, run=run, path="a.png", kind="plot", size=1)
    Step.objects.create(run=run, index=1, title="Look")
    entry = JournalEntry.objects.create(
        run=run, key="m#0", kind="model", payload=f'"{"x" * 5_000}the-end"', size=5_009
    )
    Usage.objects.create(
        run=run, entry=entry, key="m#0", input_tokens=1, output_tokens=1, cached_tokens=0
    )
    server = register_server(Server.Kind.WEB)
    Connection.objects.create(user=alice, server=server, session=session)
    create_token(user=alice, name="notebook")
    create_sign_in_link(alice)
    IdempotencyKey.objects.create(user=alice, key="k", method="POST", path="/", body_digest="")
    client.force_login(User.objects.create_superuser("operator"))
    return client


def page(model: type[Model], name: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


def test_every_table_can_be_read() -> None:
    assert {model.__name__ for model in OURS} >= {"Session", "Event", "Run", "Artifact", "Server"}


@EVERY_MODEL
def test_a_table_and_a_row_are_shown(desk: Client, model: type[Model]) -> None:
    row = model._default_manager.all()[0]
    assert desk.get(page(model, "changelist")).status_code == 200
    shown = desk.get(page(model, "change", row.pk))
    assert shown.status_code == 200
    assert "digest" not in shown.text or model is IdempotencyKey


@EVERY_MODEL
def test_nothing_is_typed_over(desk: Client, model: type[Model]) -> None:
    row = model._default_manager.all()[0]
    for name, *args in (("add",), ("change", row.pk), ("delete", row.pk)):
        assert desk.post(page(model, name, *args), {"post": "yes"}).status_code == 403


def test_of_a_long_payload_the_beginning_is_shown(desk: Client) -> None:
    entry = JournalEntry.objects.get()
    shown = desk.get(page(JournalEntry, "change", entry.pk)).text
    assert "x" * 1_500 in shown
    assert "… 3,009 more" in shown
    assert "the-end" not in shown


@pytest.mark.parametrize("model", [Step, JournalEntry, Usage], ids=lambda model: model.__name__)
def test_a_table_of_many_rows_asks_no_more_often(desk: Client, model: type[Model]) -> None:
    with CaptureQueriesContext(connection) as one:
        desk.get(page(model, "changelist"))
    (row,) = model._default_manager.all()
    for number in range(2, 6):
        _copy(row, number)
    with CaptureQueriesContext(connection) as five:
        desk.get(page(model, "changelist"))
    assert len(five) == len(one)


def _copy(row: Model, number: int) -> None:
    """Another row of the same run."""
    row.pk = None
    row._state.adding = True
    match row:
        case Step():
            row.index = number
        case JournalEntry():
            row.key_digest = str(number)
        case Usage():
            row.entry = None
    row.save()


def test_a_run_is_stopped_by_the_service(desk: Client) -> None:
    run = Session.objects.get().run_set.get()
    chosen = {"action": "cancel", "_selected_action": [str(run.pk)]}
    desk.post(page(type(run), "changelist"), chosen)
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert Event.objects.get(event_type="run_cancelled").data["by"] == "operator"
    said = desk.post(page(type(run), "changelist"), chosen, follow=True).text
    assert "already ended" in said


def test_a_token_is_revoked(desk: Client) -> None:
    token = ApiToken.objects.get()
    chosen = {"action": "revoke", "_selected_action": [str(token.pk)]}
    desk.post(page(ApiToken, "changelist"), chosen)
    assert not ApiToken.objects.usable().exists()


def test_only_staff_come_in(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.get("/admin/").status_code == 302
