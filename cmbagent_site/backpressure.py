"""daphne writes as fast as an application answers, whoever reads: a slow reader of a large file
would have all of it in this process's memory. Here the application waits for its reader."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from daphne.server import Server

MAX_UNSENT_BYTES = 2 * 2**20
LOOK_SECONDS = 0.01
STUCK_SECONDS = 60.0  # without one byte taken: nobody is there any more

_reply = Server.handle_reply


async def reply_at_the_readers_pace(server: Any, protocol: Any, message: dict[str, Any]) -> None:
    """In place of daphne's own: returns when most of what was written is on its way."""
    await _reply(server, protocol, message)
    if message["type"] == "http.response.body" and message.get("more_body"):
        await _wait_for_reader(protocol)


async def _wait_for_reader(protocol: Any) -> None:
    unsent, since = _unsent_bytes(protocol), time.monotonic()
    while unsent > MAX_UNSENT_BYTES:
        await asyncio.sleep(LOOK_SECONDS)
        now = _unsent_bytes(protocol)
        if now < unsent:
            since = time.monotonic()
        elif time.monotonic() > since + STUCK_SECONDS:
            protocol.channel.transport.abortConnection()
        unsent = now


def _unsent_bytes(protocol: Any) -> int:
    if protocol.channel is None:  # the connection is gone: there is nothing to wait for
        return 0
    transport = protocol.channel.transport
    waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    return waiting


def install() -> None:
    """Before daphne serves its first request."""
    Server.handle_reply = reply_at_the_readers_pace
