"""Who may call, and that a stranger learns nothing; one shape for every error."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from execution_app.models import Artifact
from sessions_app.models import ApiToken
from sessions_app.services import create_token
from tests.api_client import ApiClient, answer, refusal
from tests.conftest import As, MakeRun, MakeSession

# Every operation that names a session or a run. A new one belongs here: a test looks.
SESSION_PATHS = [
    ("GET", ""), ("DELETE", ""), ("GET", "/runs"), ("POST", "/runs"), ("GET", "/events"),
    ("GET", "/files"), ("POST", "/files"),
]  # fmt: skip
RUN_PATHS = [
    ("GET", ""), ("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/retry"),
    ("GET", "/console"), ("HEAD", "/console"), ("GET", "/files"), ("GET", "/files/plot.png"),
    ("HEAD", "/files/plot.png"), ("GET", "/steps"), ("GET", "/costs"),
]  # fmt: skip


@pytest.mark.parametrize("content", [b'{"nonsense": 1}', b"{", b""])
def test_a_stranger_gets_what_an_unknown_id_gets(
    api: As,
    alice: User,
    charlie: User,
    make_session: MakeSession,
    make_run: MakeRun,
    content: bytes,
) -> None:
    session = make_session(alice)
    run = make_run(session, status="running")
    Artifact.objects.create(
        session=session, run=run, path="plot.png", kind="plot", mime="image/png", size=1
    )
    client = api(charlie).client
    hidden = [(m, f"/api/sessions/{session.pk}{p}") for m, p in SESSION_PATHS]
    hidden += [(m, f"/api/runs/{run.pk}{p}") for m, p in RUN_PATHS]
    unknown = client.get(f"/api/sessions/{uuid.uuid4()}")
    for method, path in hidden:
        response = client.generic(method, path, content, content_type="application/json")
        assert response.status_code == 404, (method, path)
        if method != "HEAD":
            assert response.content == unknown.content, (method, path)
    assert session.last_seq == 1


def test_the_lists_above_are_complete() -> None:
    known = {(m, "/api/sessions/{session}" + p) for m, p in SESSION_PATHS}
    known |= {(m, "/api/runs/{run}" + p.replace("plot.png", "{path}")) for m, p in RUN_PATHS}
    schema = Client().get("/api/openapi.json").json()
    operations = {
        (method.upper(), path)
        for path, methods in schema["paths"].items()
        for method in methods
        if "{" in path
    }
    assert operations == known


@pytest.mark.parametrize(
    "name", ["7", "nonsense", "%00", "{}".format("0" * 32), "urn:uuid:" + str(uuid.uuid4()), "ä"]
)
def test_what_is_no_id_is_not_found(api: As, alice: User, name: str) -> None:
    refusal(api(alice).get(f"/api/sessions/{name}"), 404, "not_found")
    refusal(api(alice).get(f"/api/runs/{name}"), 404, "not_found")


# -- tokens -----------------------------------------------------------------------------------
def test_nobody_is_told_to_sign_in(db: None) -> None:
    response = ApiClient().get("/api/sessions")
    refusal(response, 401, "unauthenticated")
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("spoil", ["revoke", "expire", "deactivate", "mistype"])
def test_a_token_that_is_not_good(alice: User, spoil: str) -> None:
    token = create_token(user=alice)
    past = timezone.now() - timedelta(seconds=1)
    if spoil == "revoke":
        ApiToken.objects.update(revoked_at=past)
    elif spoil == "expire":
        ApiToken.objects.update(expires_at=past)
    elif spoil == "deactivate":
        User.objects.update(is_active=False)
    client = ApiClient(token + ("x" if spoil == "mistype" else ""))
    refusal(client.get("/api/sessions"), 401, "unauthenticated")


def test_a_bad_token_is_not_saved_by_a_good_cookie(
    browser_of: Callable[[User], Client], alice: User
) -> None:
    client = browser_of(alice)
    answer(client.get("/api/sessions"))
    response = client.get("/api/sessions", headers={"Authorization": "Bearer nonsense"})
    refusal(response, 401, "unauthenticated")


# -- the cookie -------------------------------------------------------------------------------
def test_the_cookie_needs_csrf_for_what_changes_something(
    browser_of: Callable[[User], Client], alice: User
) -> None:
    client, body = browser_of(alice), {"mode": "one-shot"}
    refused = client.post("/api/sessions", body, content_type="application/json")
    refusal(refused, 403, "csrf_failed")
    client.cookies["csrftoken"] = "a" * 32
    headers = {"X-CSRFToken": "a" * 32}
    made = client.post("/api/sessions", body, content_type="application/json", headers=headers)
    assert answer(made, 201)["mode"] == "one-shot"


# -- bodies -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b'{"mode": NaN}',
        b"[" * 100_000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b"1" * 5000,
    ],
)
def test_what_is_no_json_is_unparsable(api: As, alice: User, body: bytes) -> None:
    refusal(api(alice).post("/api/sessions", body), 400, "unparsable")


@pytest.mark.parametrize("body", [b"[]", b"7", b'"mode"', b"null", b""])
def test_json_that_is_no_object_is_not_valid(api: As, alice: User, body: bytes) -> None:
    assert "fields" in refusal(api(alice).post("/api/sessions", body), 422, "invalid")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type(api: As, alice: User, content_type: str) -> None:
    response = api(alice).post("/api/sessions", b'{"mode": 1}', content_type=content_type)
    refusal(response, 415, "unsupported_media_type")


def test_a_huge_body(api: As, alice: User) -> None:
    body = json.dumps({"mode": "one-shot", "name": "x" * 11_000_000}).encode()
    refusal(api(alice).post("/api/sessions", body), 413, "too_large")


def test_numbers_that_cannot_be_stored(api: As, alice: User) -> None:
    body = b'{"mode": "one-shot", "config": {"parameters": {"H0": 1e999}}}'
    refused = refusal(api(alice).post("/api/sessions", body), 422, "invalid")
    assert "config" in refused["fields"]


# -- everything else --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/nonsense", 404, "not_found"),
        ("GET", "/api/", 404, "not_found"),
        ("PUT", "/api/sessions", 405, "method_not_allowed"),
        ("GET", "/api/runs/1/cancel", 405, "method_not_allowed"),
    ],
)
def test_what_is_no_operation(db: None, method: str, path: str, status: int, code: str) -> None:
    refusal(Client().generic(method, path), status, code)


def test_a_foreign_host_is_refused_in_json(db: None) -> None:
    response = Client(SERVER_NAME="evil.example").get("/api/sessions")
    refusal(response, 400, "bad_request")


def _broken(error: Exception) -> Callable[..., Any]:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    return broken


def test_a_fault_of_ours_shows_no_traceback(
    api: As, alice: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = api(alice)
    monkeypatch.setattr("sessions_app.api.create_session", _broken(RuntimeError("secret")))
    response = client.post("/api/sessions", {"mode": "one-shot"})
    refusal(response, 500, "internal_error")
    assert b"secret" not in response.content
    assert "secret" in caplog.text


def test_a_database_that_is_away_is_worth_another_try(
    api: As, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = api(alice)
    monkeypatch.setattr("sessions_app.api.create_session", _broken(OperationalError("at db:5432")))
    response = client.post("/api/sessions", {"mode": "one-shot"})
    refusal(response, 503, "unavailable")
    assert int(response["Retry-After"]) > 0
    assert b"5432" not in response.content


def test_the_documentation_needs_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/api/docs")
    assert page.status_code == 200
    text = page.content.decode()
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in page["Content-Security-Policy"]
    for asset in ("ninja/swagger-ui-bundle.js", "ninja/swagger-ui-init.js"):
        assert finders.find(asset)
