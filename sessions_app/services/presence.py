"""Which processes serve, and which connections they hold."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections
from django.db.models.functions import Now
from django.utils import timezone

from sessions_app.models import HEARTBEAT_SECONDS, Connection, Server

logger = structlog.get_logger(__name__)


def register_server(
    kind: Server.Kind, *, sandbox_level: int | None = None, sandbox_report: str = ""
) -> Server:
    """The row of this process."""
    return Server.objects.create(
        kind=kind,
        host=settings.HOST_NAME,
        pid=os.getpid(),
        version=settings.VERSION,
        sandbox_level=sandbox_level,
        sandbox_report=sandbox_report,
    )


def beat(server_id: uuid.UUID) -> bool:
    """One heartbeat; False when the row is gone (a repair removed it)."""
    return bool(Server.objects.filter(pk=server_id).update(last_heartbeat=Now()))


def mark_draining(server_id: uuid.UUID) -> None:
    Server.objects.filter(pk=server_id).update(draining_at=timezone.now())


def retire_server(server_id: uuid.UUID) -> None:
    """The process ends in an orderly way: its row and its connections go."""
    Server.objects.filter(pk=server_id).delete()


def drop_dead_servers() -> int:
    """Remove the rows of processes whose heart stopped, and with them their connections."""
    return Server.objects.dead().delete()[0]


class Heart:
    """Beats for a web process from a thread of its own; makes the row anew if it is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: Server | None = None
        self._started = False

    def server(self) -> Server:
        """This process's row, registered at the first call. Touches the database."""
        with self._lock:
            if self._server is None:
                self._server = register_server(Server.Kind.WEB)
            if not self._started:
                threading.Thread(target=self._beat_for_ever, name="heart", daemon=True).start()
                self._started = True
            return self._server

    def retire(self) -> None:
        """The process ends: its row and its connections go, so that they count no longer."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            retire_server(server.pk)

    def _beat_for_ever(self) -> None:
        while True:
            threading.Event().wait(HEARTBEAT_SECONDS)
            try:
                self._beat_once()
            except DatabaseError as error:
                logger.warning("heartbeat_failed", error=str(error))
            finally:
                close_old_connections()

    def _beat_once(self) -> None:
        with self._lock:
            if self._server is not None and not beat(self._server.pk):
                self._server = register_server(Server.Kind.WEB)


_heart = Heart()


def web_server() -> Server:
    """The row of this web process."""
    return _heart.server()


def retire_web_server() -> None:
    """At the end of a web process. When the database is away the row dies by its heart."""
    try:
        _heart.retire()
    except DatabaseError as error:
        logger.warning("server_not_retired", error=str(error))
    finally:
        connections.close_all()


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A WebSocket that asks to be let in; the session is that of its path."""

    connection_id: uuid.UUID
    user_id: int
    session_id: uuid.UUID | None


def open_connections(newcomers: Sequence[Newcomer]) -> set[uuid.UUID]:
    """Rows for new WebSockets; returns those for which there was no place.

    Insert first, count after, each committed by itself: two processes at once may both refuse
    their last, but never both let in one too many. All that come together cost one count: ten
    thousand reconnect within seconds when a server restarts.
    """
    server = web_server()
    rows = [
        Connection(
            id=newcomer.connection_id,
            user_id=newcomer.user_id,
            session_id=newcomer.session_id,
            server=server,
        )
        for newcomer in newcomers
    ]
    # a repetition, after a commit whose confirmation was lost, meets its own rows
    Connection.objects.bulk_create(rows, ignore_conflicts=True)
    refused = _beyond_the_limits(newcomers)
    if refused:
        close_connections(refused)
    return refused


def _beyond_the_limits(newcomers: Sequence[Newcomer]) -> set[uuid.UUID]:
    alive = Connection.objects.alive()
    refused = _last_of(newcomers, alive.count() - settings.MAX_CONNECTIONS)
    if settings.MAX_CONNECTIONS_PER_USER is None:
        return refused
    for user_id in {newcomer.user_id for newcomer in newcomers}:
        own = [newcomer for newcomer in newcomers if newcomer.user_id == user_id]
        over = alive.filter(user=user_id).count() - settings.MAX_CONNECTIONS_PER_USER
        refused |= _last_of(own, over)
    return refused


def _last_of(newcomers: Sequence[Newcomer], number: int) -> set[uuid.UUID]:
    return {each.connection_id for each in newcomers[-number:]} if number > 0 else set()


def close_connections(connection_ids: Collection[uuid.UUID]) -> None:
    Connection.objects.filter(pk__in=list(connection_ids)).delete()
