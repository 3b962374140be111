"""The same POST twice has one effect and one answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from execution_app.models import Artifact, Run
from sessions_app.models import IdempotencyKey, Session
from tests.api_client import answer, refusal
from tests.conftest import As, MakeRun, MakeSession

BODY = {"mode": "one-shot", "name": "Once"}


def test_the_first_answer_is_given_again(api: As, alice: User) -> None:
    client = api(alice)
    first = client.post("/api/sessions", BODY, idempotency_key="k1")
    second = client.post("/api/sessions", BODY, idempotency_key="k1")
    assert answer(first, 201) == answer(second, 201)
    assert Session.objects.count() == 1


def test_another_key_or_another_person_is_another_request(api: As, alice: User, bob: User) -> None:
    for user, key in ((alice, "k1"), (alice, "k2"), (bob, "k1")):
        answer(api(user).post("/api/sessions", BODY, idempotency_key=key), 201)
    assert Session.objects.count() == 3


def test_a_key_belongs_to_one_body_and_one_path(
    api: As, alice: User, make_session: MakeSession
) -> None:
    session, client = make_session(alice), api(alice)
    run = {"task": "```python\nprint(1)\n```"}
    answer(client.post(f"/api/sessions/{session.pk}/runs", run, idempotency_key="k"), 202)
    other = client.post(f"/api/sessions/{session.pk}/runs", {"task": "x"}, idempotency_key="k")
    refusal(other, 422, "idempotency_key_reused")
    elsewhere = make_session(alice)
    other = client.post(f"/api/sessions/{elsewhere.pk}/runs", run, idempotency_key="k")
    refusal(other, 422, "idempotency_key_reused")
    assert Run.objects.count() == 1


def test_an_attempt_that_failed_is_not_remembered(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session, client = make_session(alice), api(alice)
    live = make_run(session, status="queued")
    path, body = f"/api/sessions/{session.pk}/runs", {"task": "print the answer"}
    refusal(client.post(path, body, idempotency_key="k"), 409, "session_busy")
    assert not IdempotencyKey.objects.exists()
    Run.objects.filter(pk=live.pk).update(status="cancelled", finished_at=timezone.now())
    answer(client.post(path, body, idempotency_key="k"), 202)


def test_a_repeated_command_does_not_fail_because_it_succeeded(
    api: As, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    run, client = make_run(make_session(alice), status="queued"), api(alice)
    path = f"/api/runs/{run.pk}/cancel"
    first = answer(client.post(path, idempotency_key="k"))
    assert answer(client.post(path, idempotency_key="k")) == first
    refusal(client.post(path, idempotency_key="k2"), 409, "wrong_status")


def test_a_day_later_the_key_is_free(api: As, alice: User) -> None:
    client = api(alice)
    answer(client.post("/api/sessions", BODY, idempotency_key="k"), 201)
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
    answer(client.post("/api/sessions", BODY | {"name": "Again"}, idempotency_key="k"), 201)
    assert Session.objects.count() == 2


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "ä", "a\tb"])
def test_a_key_that_is_none(api: As, alice: User, key: str) -> None:
    refused = api(alice).post("/api/sessions", BODY, idempotency_key=key)
    assert "Idempotency-Key" in refusal(refused, 422, "invalid")["fields"]
    assert not Session.objects.exists()


def test_an_upload_is_known_by_its_bytes_not_by_its_envelope(
    api: As, alice: User, make_session: MakeSession
) -> None:
    session, client = make_session(alice), api(alice)
    path = f"/api/sessions/{session.pk}/files"

    def send(data: bytes, name: str = "a.csv") -> Any:
        return client.upload(path, {"file": SimpleUploadedFile(name, data)}, idempotency_key="k")

    assert answer(send(b"1,2"), 201) == answer(send(b"1,2"), 201)
    refusal(send(b"1,3"), 422, "idempotency_key_reused")
    refusal(send(b"1,2", name="b.csv"), 422, "idempotency_key_reused")
    assert Artifact.objects.get().size == 3
