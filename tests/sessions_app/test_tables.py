"""What the database itself holds, whoever writes to it."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import Model, ProtectedError

from sessions_app.models import AppendOnlyError, Event, SessionState
from tests.conftest import MakeRun, MakeSession

pytestmark = pytest.mark.django_db
MODELS = [*apps.get_app_config("sessions_app").get_models()]
MODELS += apps.get_app_config("execution_app").get_models()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_foreign_keys_indexes_and_constraints_are_there(model: type[Model]) -> None:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    keys = {tuple(each["columns"]) for each in found.values() if each["foreign_key"]}
    relations = {(f.column,) for f in model._meta.concrete_fields if f.is_relation}
    named = {each.name for each in (*model._meta.indexes, *model._meta.constraints)}
    assert keys == relations
    assert named <= set(found)


def test_a_line_of_the_log_is_never_changed(alice: User, make_session: MakeSession) -> None:
    line = Event.objects.get(session=make_session(alice))
    for change in (line.save, line.delete, lambda: Event.objects.update(event_type="other")):
        with pytest.raises(AppendOnlyError):
            change()


def test_a_number_is_given_once(alice: User, make_session: MakeSession) -> None:
    line = Event.objects.get(session=make_session(alice))
    line.pk, line._state.adding = None, True
    with pytest.raises(IntegrityError), transaction.atomic():
        line.save()


def test_a_session_has_one_state_that_goes_with_it(alice: User, make_session: MakeSession) -> None:
    session = make_session(alice)
    with pytest.raises(IntegrityError), transaction.atomic():
        SessionState.objects.create(session=session)
    with pytest.raises(ProtectedError):
        session.delete()  # its log is still there
    Event.objects.filter(session=session)._raw_delete(connection.alias)
    session.delete()
    assert not SessionState.objects.exists()


@pytest.mark.parametrize("status", ["running", "waiting_approval", "paused"])
def test_two_runs_never_share_a_work_directory(
    alice: User, make_session: MakeSession, make_run: MakeRun, status: str
) -> None:
    session = make_session(alice)
    make_run(session, status="running")
    with pytest.raises(IntegrityError), transaction.atomic():
        make_run(session, status=status)
