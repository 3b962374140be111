"""What only an application in the test's own process shows: broken layers, lost rights, faults."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from sessions_app import consumers
from sessions_app.models import ApiToken, Connection, Session
from sessions_app.services import create_session, create_token, revoke_token
from sessions_app.sockets import admission, feed, patrol, reading, together
from tests.sessions_app.socket_in_process import (
    connected,
    forget_the_process,
    subscribe,
    wait_for,
    write,
)


class BrokenLayer(BaseChannelLayer):
    """Redis on its worst day."""

    def __init__(self, works_for: int) -> None:
        super().__init__()
        self._left = works_for

    async def new_channel(self, prefix: str = "specific.") -> str:
        return await self._answer(f"{prefix}x")

    async def group_add(self, group: str, channel: str) -> None:
        await self._answer("")

    async def group_discard(self, group: str, channel: str) -> None:
        await self._answer("")

    async def receive(self, channel: str) -> dict[str, Any]:
        await self._answer("")
        return {"type": "nonsense"}

    async def _answer(self, answer: str) -> str:
        self._left -= 1
        if self._left < 0:
            raise ConnectionError("the layer is broken")
        return answer


@pytest.fixture(autouse=True)
def nothing_is_kept(transactional_db: None) -> Iterator[None]:
    yield
    forget_the_process()


@pytest.fixture
def session(alice: User) -> Session:
    return create_session(owner=alice, mode="one-shot")


@pytest.fixture
def token(alice: User) -> str:
    return create_token(user=alice)


@pytest.mark.parametrize("works_for", [0, 1, 2, 3, 4, 5])
async def test_a_broken_layer_makes_the_stream_late_and_no_more(
    session: Session, token: str, works_for: int, settings: Settings
) -> None:
    path = f"{__name__}.BrokenLayer"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": path, "CONFIG": {"works_for": works_for}}}
    async with connected(token, f"/ws/sessions/{session.pk}/") as communicator:
        assert (await wait_for(communicator, "live"))["head"] == 1
        await write(session, 3)
        assert (await wait_for(communicator, "events"))["last"] == 4


async def test_a_revoked_token_closes_its_sockets(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patrol, "RECHECK_SECONDS", 0.2)
    monkeypatch.setattr(patrol, "STEP_SECONDS", 0.1)
    async with connected(token) as communicator:
        await wait_for(communicator, "hello")
        await ApiToken.objects.all().adelete()
        assert await communicator.receive_output(timeout=5) == {
            "type": "websocket.close",
            "code": 4401,
        }


async def test_a_token_that_a_person_revokes_closes_its_sockets_at_once(token: str) -> None:
    async with connected(token) as communicator:
        await wait_for(communicator, "hello")
        await sync_to_async(revoke_token)(await ApiToken.objects.aget())
        closed = await communicator.receive_output(timeout=10)
        assert closed == {"type": "websocket.close", "code": 4401}


async def test_a_new_password_cuts_the_sockets_of_other_browsers_at_once(alice: User) -> None:
    def change(browser: Client) -> None:
        words = {"old_password": "an old long secret", "new_password1": "a new long secret"}
        words["new_password2"] = words["new_password1"]
        answer = browser.post(reverse("sessions:change_password"), words)
        assert answer.status_code == 303

    alice.set_password("an old long secret")
    await sync_to_async(alice.save)()
    browser, other = Client(), Client()
    for each in (browser, other):
        await sync_to_async(each.force_login)(alice)
    cookie = other.cookies[django_settings.SESSION_COOKIE_NAME].value
    shown = f"{django_settings.SESSION_COOKIE_NAME}={cookie}".encode()
    async with connected("", headers=[(b"cookie", shown)]) as communicator:
        await wait_for(communicator, "hello")
        await sync_to_async(change)(browser)
        closed = await communicator.receive_output(timeout=10)
        assert closed == {"type": "websocket.close", "code": 4401}


async def test_a_deactivated_owner_gets_no_event_although_nobody_was_told(
    alice: User, session: Session, token: str
) -> None:
    """Its sockets are looked at after half a minute; the feed asks before it hands out."""
    async with connected(token) as communicator:
        await communicator.send_to(json.dumps({"type": "subscribe", "session": str(session.pk)}))
        await wait_for(communicator, "live")
        await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
        await write(session, 3)
        frame = json.loads(await communicator.receive_from(timeout=10))
        assert (frame["type"], frame["code"]) == ("error", "not_found")


async def test_a_handler_that_fails_leaves_the_socket_open(
    session: Session, token: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(token) as communicator:
        with monkeypatch.context() as patch:
            patch.setattr(consumers, "Subscriber", None)
            frame = {"type": "subscribe", "session": str(session.pk)}
            await communicator.send_to(json.dumps(frame))
            await communicator.send_to(json.dumps({"type": "ping", "id": 1}))
            await wait_for(communicator, "pong")
        await subscribe(communicator, session, id=2)
    assert "socket_failed" in caplog.text


async def test_a_session_that_is_given_away_is_gone(
    session: Session, bob: User, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patrol, "RECHECK_SECONDS", 0.2)
    monkeypatch.setattr(patrol, "STEP_SECONDS", 0.1)
    async with connected(token) as communicator:
        await communicator.send_to(json.dumps({"type": "subscribe", "session": str(session.pk)}))
        await wait_for(communicator, "live")
        await Session.objects.filter(pk=session.pk).aupdate(owner=bob)
        assert (await wait_for(communicator, "error"))["code"] == "not_found"


async def test_a_database_that_fails_is_asked_again(
    session: Session, token: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OperationalError("gone"), RuntimeError("odd")]

    def read_logs(questions: Any) -> Any:
        if failures:
            raise failures.pop()
        return reading.read_logs(questions)

    monkeypatch.setattr(together, "read_logs", read_logs)
    monkeypatch.setattr(feed, "RETRY_SECONDS", 0.05)
    async with connected(token, f"/ws/sessions/{session.pk}/") as communicator:
        assert (await wait_for(communicator, "live"))["head"] == 1
        await write(session, 3)
        assert (await wait_for(communicator, "events"))["last"] == 4
    assert "gone" in caplog.text
    assert "odd" in caplog.text


async def test_a_database_that_stays_away_at_the_door_says_restarting(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_all(*_: Any) -> NoReturn:
        raise OperationalError("gone")

    monkeypatch.setattr(admission, "answer_all", answer_all)
    monkeypatch.setattr(admission, "TRIES", 2)
    async with connected(token) as communicator:
        closed = await communicator.receive_output(timeout=5)
        assert closed == {"type": "websocket.close", "code": 1012}


async def test_a_closed_socket_leaves_no_row(session: Session, token: str) -> None:
    async with connected(token, f"/ws/sessions/{session.pk}/") as communicator:
        hello = await wait_for(communicator, "hello")
        assert await Connection.objects.filter(pk=uuid.UUID(hello["connection_id"])).aexists()
    for _ in range(100):
        if not await Connection.objects.aexists():
            break
        await sync_to_async(threading.Event().wait)(0.05)
    assert not await Connection.objects.aexists()
