"""What only an application in the test's own process shows: broken layers, lost rights, faults."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.db import OperationalError, connections
from pytest_django import Settings

from sessions_app.event_types import Output
from sessions_app.models import ApiToken, Connection, Session
from sessions_app.routing import websocket_urlpatterns
from sessions_app.services import (
    append_events,
    create_session,
    create_token,
    retire_web_server,
)
from sessions_app.sockets import admission, feed, patrol, reading, threads

routes: Any = websocket_urlpatterns


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
    """The process keeps its row and its threads their connections; the next test has neither."""
    yield
    retire_web_server()
    barrier = threading.Barrier(threads.READERS)

    def close() -> None:
        barrier.wait(10)
        connections.close_all()

    closing = [threads._readers.submit(close) for _ in range(threads.READERS)]
    for done in [*closing, threads._writer.submit(connections.close_all)]:
        done.result(20)


@pytest.fixture
def session(alice: User) -> Session:
    return create_session(owner=alice, mode="one-shot")


@pytest.fixture
def token(alice: User) -> str:
    return create_token(user=alice)


@asynccontextmanager
async def connected(token: str, path: str = "/ws/") -> AsyncIterator[WebsocketCommunicator]:
    headers = [(b"authorization", f"Bearer {token}".encode())]
    communicator = WebsocketCommunicator(URLRouter(routes), path, headers=headers)
    assert (await communicator.connect(timeout=5))[0]
    yield communicator
    await communicator.disconnect(timeout=5)


async def wait_for(communicator: WebsocketCommunicator, kind: str) -> dict[str, Any]:
    while True:
        frame: dict[str, Any] = json.loads(await communicator.receive_from(timeout=5))
        if frame["type"] == kind:
            return frame


async def write(session: Session, number: int) -> None:
    lines = [Output(stream="stdout", line=n + 1, text=f"{n}\n") for n in range(number)]
    await sync_to_async(append_events)(session.pk, lines)


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
    read, failures = reading.read_log, [OperationalError("gone"), RuntimeError("odd")]

    def read_log(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return read(*arguments, **options)

    monkeypatch.setattr(feed, "read_log", read_log)
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
