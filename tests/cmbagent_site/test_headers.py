"""Every answer carries the policy, also those that nobody meant to give."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.conftest import MakeSession

pytestmark = pytest.mark.django_db

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "object-src": "'none'",
    "frame-ancestors": "'none'",
}


def policy(response: Any) -> dict[str, str]:
    parts = response["Content-Security-Policy"].split(";")
    return dict(part.strip().split(" ", 1) for part in parts if part.strip())


def assert_guarded(response: Any, status: int) -> None:
    assert response.status_code == status
    assert policy(response) == POLICY
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] in {"same-origin", "strict-origin"}


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/sessions/", 200),
        ("/sessions/new/", 200),
        ("/sign-in/", 302),
        ("/static/app.css", 200),
        ("/static/nothing.css", 404),
        ("/nowhere/", 404),
        ("/sessions/4ab52335-0a3a-4ff4-a0c6-ed83cdb6ec0e/", 404),
        ("/admin/", 200),
        ("/admin/nowhere/", 404),
        ("/api/docs", 200),
        ("/api/openapi.json", 200),
        ("/api/sessions", 200),
        ("/api/nowhere", 404),
        ("/api/health/live", 200),
    ],
)
def test_answers_of_every_sort(client: Client, address: str, status: int) -> None:
    client.force_login(User.objects.create_superuser("root"))
    response = client.get(address)
    assert response.status_code == status
    assert policy(response) == POLICY
    assert response["X-Content-Type-Options"] == "nosniff"
    response.close()  # of a static file


def test_pages_and_fragments(client: Client, alice: User, make_session: MakeSession) -> None:
    session = make_session(alice)
    client.force_login(alice)
    for address in ("", "_status/", "_files/"):
        assert_guarded(client.get(f"/sessions/{session.pk}/{address}"), 200)


def test_other_methods(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert_guarded(client.delete("/sessions/"), 405)
    assert_guarded(client.delete("/api/health/live"), 405)


def test_refusals(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert_guarded(client.post("/sessions/new/"), 403)
    for address in ("/sessions/", "/api/sessions"):  # refused before most middlewares have a say
        response = client.get(address, headers={"Host": "evil.example"})
        assert (response.status_code, policy(response)) == (400, POLICY)


def test_faults(alice: User, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError

    session = make_session(alice)
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    monkeypatch.setattr("sessions_app.views.session.get_session", broken)
    assert_guarded(client.get(f"/sessions/{session.pk}/"), 500)
    monkeypatch.setattr("sessions_app.api.Session", None)
    assert_guarded(client.get("/api/sessions"), 500)
