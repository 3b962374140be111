"""Health really asks: each thing that is missing is named, and nothing else is said of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from cmbagent_site import health
from sessions_app.models import Server
from sessions_app.services import register_server
from tests.servers import Redis, free_port

CHECKS = {"database", "broker", "channel_layer", "worker", "disk", "sandbox"}


@pytest.fixture
def worker(db: None) -> Server:
    return register_server(Server.Kind.WORKER, sandbox_level=2)


def _failed(client: Client) -> dict[str, str]:
    """What is not ready, and what is said of it."""
    response = client.get("/api/health/ready")
    body = response.json()
    assert set(body["checks"]) == CHECKS
    failed = {n: c["detail"] for n, c in body["checks"].items() if c["status"] == "failed"}
    assert response.status_code == (503 if failed else 200)
    if failed:
        assert (body["status"], body["code"]) == ("unavailable", "not_ready")
        assert all(name in body["detail"] for name in failed)
        assert int(response["Retry-After"]) > 0
    return failed


def _raise(error: Exception) -> Any:
    def raising(*_: Any, **__: Any) -> None:
        raise error

    return raising


def test_alive_is_answered_to_anybody(client: Client) -> None:
    body = client.get("/api/health/live").json()
    assert body["status"] == "ok"
    assert body["timestamp"].endswith("Z")
    assert client.head("/api/health/live").status_code == 200


def test_ready_when_everything_is_there(client: Client, worker: Server) -> None:
    assert _failed(client) == {}


def test_no_worker(client: Client, db: None) -> None:
    assert set(_failed(client)) == {"worker", "sandbox"}
    assert "run_workers" in _failed(client)["worker"]


def test_a_worker_whose_heart_stopped_or_that_drains(client: Client, worker: Server) -> None:
    Server.objects.update(last_heartbeat=timezone.now() - timedelta(seconds=60))
    assert "worker" in _failed(client)
    Server.objects.update(last_heartbeat=timezone.now(), draining_at=timezone.now())
    assert "worker" in _failed(client)


def test_a_worker_without_a_sandbox(client: Client, worker: Server) -> None:
    Server.objects.update(sandbox_level=None)
    assert set(_failed(client)) == {"sandbox"}


def test_no_room_on_the_disk(
    client: Client, worker: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DISK_MINIMUM", 2**60)
    assert set(_failed(client)) == {"disk"}


def test_a_database_that_takes_no_writes(
    client: Client, worker: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = OperationalError("connection to db.example as cmbagent:hunter2 failed")
    monkeypatch.setattr("cmbagent_site.health.transaction.atomic", _raise(secret))
    assert _failed(client) == {"database": "OperationalError; the log says more."}


def test_the_redis_broker(client: Client, worker: Server, settings: Settings, redis: Redis) -> None:
    settings.REDIS_URL = redis.url
    assert _failed(client) == {}
    redis.freeze()
    try:
        assert set(_failed(client)) == {"broker"}
    finally:
        redis.thaw()
    settings.REDIS_URL = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    failed = _failed(client)
    assert set(failed) == {"broker"}
    assert "hunter2" not in failed["broker"]


def test_the_channel_layer(client: Client, worker: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr("channels.layers.InMemoryChannelLayer.group_send", _silent)
    assert set(_failed(client)) == {"channel_layer"}


async def _silent(*_: Any, **__: Any) -> None:
    """A layer that loses everything."""


def test_the_layer_of_make_run(client: Client, worker: Server, settings: Settings) -> None:
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "cmbagent_site.layers.UnixDatagramLayer",
            "CONFIG": {"folder": settings.RUNTIME_DIR},
        }
    }
    assert _failed(client) == {}


def test_no_person_is_needed_and_none_is_asked_for(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.get("/api/health/live").status_code == 200
