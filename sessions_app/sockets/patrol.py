"""Is everybody still who they were, and is what they follow still theirs to see?"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from sessions_app.sockets.feed import Feed
from sessions_app.sockets.rights import Credentials, find_users
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.threads import in_writer

logger = structlog.get_logger(__name__)

RECHECK_SECONDS = 30.0
STEP_SECONDS = 1.0
AT_ONCE = 100  # sockets in one call of a thread


class Socket(Protocol):
    credentials: Credentials
    user_id: int
    checked_at: float

    async def sign_out(self) -> None: ...


class Patrol:
    """Looks every second at those who were not looked at for half a minute; at some, at once."""

    def __init__(
        self, sockets: Mapping[uuid.UUID, Socket], feeds: Mapping[uuid.UUID, Feed]
    ) -> None:
        self._sockets = sockets
        self._feeds = feeds
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Goes on for as long as there are sockets."""
        if self._task is None or self._task.done():
            self._task = start_task(self._walk(), "patrol")

    def check_now(self, user_id: int) -> None:
        """Somebody took a way in from this user."""
        for socket in self._sockets.values():
            if socket.user_id == user_id:
                socket.checked_at = -RECHECK_SECONDS
        self._hurry.set()

    async def _walk(self) -> None:
        while self._sockets:
            try:
                async with asyncio.timeout(STEP_SECONDS):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            await self._step()

    async def _step(self) -> None:
        """A process edge. A feed asks for rights whenever it reads; here the quiet ones are sent."""
        due = time.monotonic() - RECHECK_SECONDS
        for feed in list(self._feeds.values()):
            if feed.looked_at <= due:
                feed.wake()
        sockets = [each for each in self._sockets.values() if each.checked_at <= due]
        for start in range(0, len(sockets), AT_ONCE):
            try:
                await self._check(sockets[start : start + AT_ONCE])
            except Exception as error:  # noqa: BLE001
                logger.warning("recheck_failed", error=f"{type(error).__name__}: {error}")
                return

    async def _check(self, sockets: Sequence[Socket]) -> None:
        # not among the readers: finding a token notes when it was used
        users = await in_writer(find_users, _shown_by(sockets))
        now = time.monotonic()
        for socket in sockets:
            socket.checked_at = now
            if users[socket.credentials] != socket.user_id:
                await socket.sign_out()


def _shown_by(sockets: Iterable[Socket]) -> set[Credentials]:
    return {socket.credentials for socket in sockets}
