"""Telling readers that a session moved. A hint may be lost, doubled or late without harm."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

logger = structlog.get_logger(__name__)

PATIENCE_SECONDS = 0.25
SILENCE_SECONDS = 2.0  # after a failure nobody waits for the layer again for this long

RunCoroutine = Callable[[Coroutine[Any, Any, None]], None]


def session_group(session_id: uuid.UUID | str) -> str:
    return f"session.{uuid.UUID(str(session_id)).hex}"


def connection_group(connection_id: uuid.UUID | str) -> str:
    """Of one WebSocket. What is sent to it names it, because a process listens for all of its
    sockets with one channel: {"type": "connection.close", "connection": "<id>", "code": 4401}."""
    return f"connection.{uuid.UUID(str(connection_id)).hex}"


def user_group(user_id: int) -> str:
    """Of all processes where this user has a socket open."""
    return f"user.{user_id}"


def _run_in_request(coroutine: Coroutine[Any, Any, None]) -> None:
    async def awaited() -> None:
        await coroutine

    async_to_sync(awaited)()


class HintSender:
    """Sends hints from synchronous code: never longer than its patience, never raising."""

    def __init__(self, run: RunCoroutine) -> None:
        self._run = run
        self._silent_until = 0.0

    def send(self, group: str, message: dict[str, Any]) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            self._run(_group_send(group, message))
        except Exception as error:  # noqa: BLE001  whatever ails the layer, the log is the truth
            self._silent_until = time.monotonic() + SILENCE_SECONDS
            logger.warning("hint_failed", error=f"{type(error).__name__}: {error}")


async def _group_send(group: str, message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is None:  # a deployment without one: readers look by themselves every second
        return
    async with asyncio.timeout(PATIENCE_SECONDS):
        await layer.group_send(group, message)


_sender = HintSender(_run_in_request)
_loop_of: int | None = None  # the process that keeps a loop


def keep_one_loop() -> None:
    """For a worker process: async_to_sync would make a loop, and a Redis connection, per hint.

    Once in a process: the Redis layer keeps every loop that it has seen.
    """
    global _sender, _loop_of  # noqa: PLW0603  one process, one way to send
    if _loop_of != os.getpid():
        _loop_of = os.getpid()
        _sender = HintSender(asyncio.new_event_loop().run_until_complete)


def send_hint_on_commit(session_id: uuid.UUID | str) -> None:
    """After the transaction in progress is committed, tell readers of this session.

    Also when somebody may no longer see it: feeds ask for that before they hand out anything.
    """
    message = {"type": "session.moved", "session": str(session_id)}
    transaction.on_commit(lambda: _sender.send(session_group(session_id), message))


def send_recheck_on_commit(user_id: int) -> None:
    """The same when a way in was taken from this user: their sockets are looked at now."""
    message = {"type": "user.recheck", "user": user_id}
    transaction.on_commit(lambda: _sender.send(user_group(user_id), message))


def close_socket(connection_id: uuid.UUID | str, code: int) -> None:
    """Cut one socket, wherever it is."""
    message = {"type": "connection.close", "connection": str(connection_id), "code": code}
    _sender.send(connection_group(connection_id), message)
