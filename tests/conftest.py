"""The cast, and what most tests begin with.

Alice owns things, Bob has his own, Charlie must see nothing, staff see everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoDbBlocker, Settings

from cmbagent.models.choosing import ModelEnvironment
from execution_app.models import Run
from execution_app.statuses import FINAL, RunStatus
from sessions_app.models import Session
from sessions_app.services import create_session, create_token
from tests.api_client import ApiClient
from tests.servers import PostgreSQL, Redis


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file, as in life: SQLite in memory locks otherwise and has no WAL."""
    from django.conf import settings  # noqa: PLC0415  settings are not loaded before this runs

    if settings.ON_SQLITE:
        name = tmp_path_factory.mktemp("database") / "test.sqlite3"
        settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = str(name)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """PostgreSQL drops no database that a thread of ours still holds a connection to."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture(autouse=True)
def _own_folders(settings: Settings, tmp_path: Path) -> None:
    """No test meets the data of the checkout, nor that of another test."""
    settings.DATA_DIR = tmp_path / "data"
    settings.RUNTIME_DIR = settings.DATA_DIR / "run"
    settings.SESSIONS_DIR = settings.DATA_DIR / "sessions"
    settings.BLOBS_DIR = settings.DATA_DIR / "blobs"
    settings.DATA_DIR.mkdir()
    settings.MODEL_ENVIRONMENT = ModelEnvironment({})  # a developer's keys are not for tests
    settings.WHITENOISE_AUTOREFRESH = True  # else each client reads every static file there is
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


# -- the cast ---------------------------------------------------------------------------------
@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob")


@pytest.fixture
def charlie(db: None) -> User:
    return User.objects.create_user("charlie")


@pytest.fixture
def staff(db: None) -> User:
    return User.objects.create_user("staff", is_staff=True)


# -- what they have ---------------------------------------------------------------------------
class MakeSession(Protocol):
    def __call__(self, owner: User, *, name: str = ..., mode: str = ...) -> Session: ...


class MakeRun(Protocol):
    def __call__(self, session: Session, *, status: str = ..., **fields: Any) -> Run: ...


@pytest.fixture
def make_session(db: None) -> MakeSession:
    def make(owner: User, *, name: str = "", mode: str = "one-shot") -> Session:
        return create_session(owner=owner, mode=mode, name=name)

    return make


@pytest.fixture
def make_run(db: None) -> MakeRun:
    """A run's row in any status, as its constraints want it; no events, no bell."""

    def make(session: Session, *, status: str = RunStatus.COMPLETED, **fields: Any) -> Run:
        number = Run.objects.filter(session=session).count() + 1
        defaults: dict[str, Any] = {"number": number, "task": "print the answer"}
        if status in FINAL:
            defaults["finished_at"] = timezone.now()
        if status == RunStatus.RUNNING:
            defaults |= {"lease_owner": "nobody", "lease_expires_at": timezone.now()}
        return Run.objects.create(session=session, status=status, **{**defaults, **fields})

    return make


# -- how they ask -----------------------------------------------------------------------------
class As(Protocol):
    def __call__(self, user: User) -> ApiClient: ...


@pytest.fixture
def api(db: None) -> As:
    """`api(alice).get("/api/sessions")`: a program of Alice's, with a token."""
    return lambda user: ApiClient(create_token(user=user))


@pytest.fixture
def browser_of(db: None) -> Any:
    """`browser_of(alice)`: a signed-in client that must send CSRF tokens, as browsers must."""

    def signed_in(user: User) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        return client

    return signed_in


# -- servers of a test's own ------------------------------------------------------------------
@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """One for all tests of this process; who kills it starts it again."""
    with PostgreSQL.running() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    with Redis.running() as server:
        yield server
