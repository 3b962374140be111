"""What holds on SQLite holds on PostgreSQL: the services' own tests again, and the migrations."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.deployment import BASE_DIR, Deployment
from tests.servers import PostgreSQL

pytestmark = pytest.mark.acceptance
APPS = ("execution_app", "sessions_app")


@pytest.mark.timeout(600)
def test_the_services_tests_hold_on_postgresql(postgres: PostgreSQL) -> None:
    url = postgres.create_database("services")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + [f"tests/{app}" for app in APPS]
        + ["-m", "not acceptance and not browser and not soak"],
        cwd=BASE_DIR,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


@pytest.mark.timeout(300)
def test_migrations_go_to_zero_and_back(database: Deployment) -> None:
    database.python(
        "from django.contrib.auth.models import User;"
        "from sessions_app.services import create_session;"
        "create_session(owner=User.objects.get(), mode='one-shot')"
    )

    for app in APPS:
        database.manage("migrate", app, "zero")
    tables = database.query(TABLES[database.shape])
    assert not [name for (name,) in tables if name.startswith(APPS)]
    database.manage("migrate")
    database.python(
        "from django.contrib.auth.models import User;"
        "from sessions_app.services import create_session;"
        "create_session(owner=User.objects.get(), mode='one-shot')"
    )


TABLES = {
    "embedded": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "production": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
}
