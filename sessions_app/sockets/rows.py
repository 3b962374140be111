"""Removing the rows of closed connections, also when the database is away just then."""

from __future__ import annotations

import asyncio
import uuid

import structlog
from django.db import Error

from sessions_app.services import close_connections
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.threads import in_writer

logger = structlog.get_logger(__name__)

RETRY_SECONDS = 2.0
AT_ONCE = 500


class RowRemover:
    """A row that stayed would count against MAX_CONNECTIONS for as long as this process lives."""

    def __init__(self) -> None:
        self._left: set[uuid.UUID] = set()
        self._task: asyncio.Task[None] | None = None

    def remove(self, connection_id: uuid.UUID) -> None:
        self._left.add(connection_id)
        if self._task is None or self._task.done():
            self._task = start_task(self._remove_all(), "row remover")

    async def _remove_all(self) -> None:
        while self._left:
            together = [self._left.pop() for _ in range(min(len(self._left), AT_ONCE))]
            try:
                await in_writer(close_connections, together)
            except Error as error:
                self._left.update(together)
                logger.warning("row_not_removed", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(RETRY_SECONDS)
