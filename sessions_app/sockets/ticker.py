"""The safety net under the hints: once a second, one question for all sessions that are watched.

Asked by each reader for itself, a thousand idle sockets would cost half a core.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Protocol

import structlog

from sessions_app.models import Session
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.threads import in_reader

logger = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
IDS_AT_ONCE = 1_000

Position = tuple[str, int]  # epoch and head


class Reader(Protocol):
    session_id: uuid.UUID

    def is_at(self, position: Position | None) -> bool: ...
    def wake(self) -> None: ...


def positions_of(session_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Position]:
    """Of those that exist and are not deleted."""
    positions: dict[uuid.UUID, Position] = {}
    for start in range(0, len(session_ids), IDS_AT_ONCE):
        ids = session_ids[start : start + IDS_AT_ONCE]
        rows = Session.objects.filter(pk__in=ids, deleted_at__isnull=True)
        for session_id, epoch, head in rows.values_list("pk", "epoch", "last_seq"):
            positions[session_id] = (epoch, head)
    return positions


class Ticker:
    """Wakes every reader that is not where its session is."""

    def __init__(self) -> None:
        self._readers: dict[uuid.UUID, set[Reader]] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, reader: Reader) -> None:
        self._readers.setdefault(reader.session_id, set()).add(reader)
        if self._task is None or self._task.done():
            self._task = start_task(self._tick_on(), "ticker")

    def unwatch(self, reader: Reader) -> None:
        readers = self._readers.get(reader.session_id, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(reader.session_id, None)

    async def _tick_on(self) -> None:
        while self._readers:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self._tick()
            except Exception as error:  # noqa: BLE001  a process edge: readers depend on the next tick
                logger.warning("tick_failed", error=f"{type(error).__name__}: {error}")

    async def _tick(self) -> None:
        positions = await in_reader(positions_of, list(self._readers))
        for session_id, readers in list(self._readers.items()):
            position = positions.get(session_id)
            for reader in readers:
                if not reader.is_at(position):
                    reader.wake()
