"""The process that stores what the runs of a host print: batches that arrived meanwhile go into
the database in one transaction. It keeps nothing: killed at any moment, nothing is lost."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Any

import structlog
from django.db import connection
from django.db.backends.signals import connection_created

from execution_app import control
from execution_app.group_commit import (
    ALONE,
    COMMITTER_SOCKET,
    MAX_PACKET_BYTES,
    STORED,
    read_packet,
)
from execution_app.services import Batch, record_group
from sessions_app.hints import keep_one_loop

logger = structlog.get_logger(__name__)

CALM_SECONDS = 0.1
LOCK_TIMEOUT = "500ms"  # one row that somebody keeps must not keep the others

Client = socket.socket


class GroupCommitter:
    """Serves until it is killed. One packet a client is in flight: who asks waits."""

    def __init__(self) -> None:
        keep_one_loop()
        connection_created.connect(_limit_locks)
        self._listener = control.listen_for_packets(COMMITTER_SOCKET)
        self._clients = selectors.DefaultSelector()
        self._clients.register(self._listener, selectors.EVENT_READ)
        logger.info("committer_started")

    def run(self) -> None:
        while True:
            self.serve_once()

    def serve_once(self, patience: float | None = None) -> None:
        """Everything that is waiting, as one group."""
        group: list[tuple[Client, Batch]] = []
        for key, _ in self._clients.select(patience):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.fileobj, socket.socket):
                group += self._read(key.fileobj)
        if group:
            self._store(group)

    def close(self) -> None:
        connection_created.disconnect(_limit_locks)
        for key in list(self._clients.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._clients.close()

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                client.setblocking(False)
                self._clients.register(client, selectors.EVENT_READ)
        except BlockingIOError:
            return
        except OSError as error:  # out of descriptors: those that are connected are served on
            logger.warning("client_not_accepted", error=str(error))
            time.sleep(CALM_SECONDS)

    def _read(self, client: Client) -> Sequence[tuple[Client, Batch]]:
        try:
            if data := client.recv(MAX_PACKET_BYTES):
                return [(client, read_packet(data))]
        except BlockingIOError:
            return []
        except (OSError, ValueError, TypeError, RecursionError) as error:
            logger.warning("batch_not_read", error=f"{type(error).__name__}: {error}"[:200])
        self._forget(client)
        return []

    def _store(self, group: Sequence[tuple[Client, Batch]]) -> None:
        """A process edge: what refuses a group, each supervisor finds out by itself."""
        try:
            stored = record_group([batch for _, batch in group])
        except Exception as error:  # noqa: BLE001  a driver refuses some text with errors of its own
            logger.warning(
                "group_refused", batches=len(group), error=f"{type(error).__name__}: {error}"[:200]
            )
            connection.close()
            stored = set()
        for client, batch in group:
            self._answer(client, STORED if batch.run_id in stored else ALONE)

    def _answer(self, client: Client, word: bytes) -> None:
        try:
            client.send(word)
        except OSError:
            self._forget(client)

    def _forget(self, client: Client) -> None:
        with contextlib.suppress(KeyError):
            self._clients.unregister(client)
        client.close()


def _limit_locks(connection: Any, **_: object) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
