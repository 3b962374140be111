"""An application in the test's own process, where its parts can be watched and broken."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.db import connections

from sessions_app import hints
from sessions_app.event_types import Output
from sessions_app.models import Session
from sessions_app.routing import websocket_urlpatterns
from sessions_app.services import append_events, create_token, retire_web_server
from sessions_app.sockets import threads

routes: Any = websocket_urlpatterns


def forget_the_process() -> None:
    """A process keeps its row and its threads their connections; the next test has neither."""
    retire_web_server()
    hints._sender._silent_until = 0  # a layer that one test broke is whole in the next
    barrier = threading.Barrier(threads.READERS)

    def close() -> None:
        barrier.wait(10)
        connections.close_all()

    closing = [threads._readers.submit(close) for _ in range(threads.READERS)]
    for done in [*closing, threads._writer.submit(connections.close_all)]:
        done.result(20)


@asynccontextmanager
async def connected(
    token: str, path: str = "/ws/", *, headers: Sequence[tuple[bytes, bytes]] = ()
) -> AsyncIterator[WebsocketCommunicator]:
    """With a token, or with headers that show something else."""
    headers = list(headers) or [(b"authorization", f"Bearer {token}".encode())]
    communicator = WebsocketCommunicator(URLRouter(routes), path, headers=headers)
    assert (await communicator.connect(timeout=5))[0]
    yield communicator
    await communicator.disconnect(timeout=5)


async def wait_for(communicator: WebsocketCommunicator, kind: str) -> dict[str, Any]:
    while True:
        frame: dict[str, Any] = json.loads(await communicator.receive_from(timeout=10))
        if frame["type"] == kind:
            return frame


async def subscribe(communicator: WebsocketCommunicator, session: Session, **fields: Any) -> None:
    """And wait until it is live."""
    frame = {"type": "subscribe", "session": str(session.pk), "after": 1, **fields}
    await communicator.send_to(json.dumps(frame))
    await wait_for(communicator, "live")


async def write(session: Session, number: int) -> None:
    lines = [Output(stream="stdout", line=n + 1, text=f"{n}\n") for n in range(number)]
    await sync_to_async(append_events)(session.pk, lines)


async def new_token(user: User) -> str:
    return await sync_to_async(create_token)(user=user)
