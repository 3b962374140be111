"""Handing a batch to the host's committer, which stores those of all its supervisors together.

One packet there, one byte back when it is committed. Whatever is in the way (no committer, one
that is slow, a batch that is no mere output), the supervisor stores the batch itself: if the
committer did store it, the fence recognises it.
"""

from __future__ import annotations

import json
import socket
import time
import uuid
from typing import Any

from django.conf import settings

from execution_app import control
from execution_app.services import Batch
from sessions_app.services import Lines

COMMITTER_SOCKET = "committer.sock"  # in RUNTIME_DIR
MAX_PACKET_BYTES = 96 * 1024  # what a socket takes in one piece; large batches are rare commits
STORED, ALONE = b"1", b"0"
ANSWER_WITHIN_SECONDS = 2.0
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 1.0, 30.0  # before the next try, after each in vain


def packet(batch: Batch) -> bytes:
    lines = batch.lines
    fence = [batch.owner, batch.attempt, batch.number]
    told: list[Any] = [str(lines.session_id), str(lines.run_id), *fence, lines.events]
    return json.dumps(told, separators=(",", ":")).encode()


def read_packet(data: bytes) -> Batch:
    """Raises ValueError, TypeError, RecursionError for what no supervisor sends."""
    session, run, owner, attempt, number, events = json.loads(data)
    told = [(str(kind), step, dict(shown)) for kind, step, shown in events]
    lines = Lines(uuid.UUID(str(session)), uuid.UUID(str(run)), told)
    return Batch(owner, attempt, number, lines)


class Committer:
    """A supervisor's connection to the committer of its host, made when it is needed."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self._not_before = 0.0

    def takes(self, batch: Batch) -> bool:
        """True when the batch is committed; False: store it yourself."""
        data = packet(batch)
        if len(data) > MAX_PACKET_BYTES or not self._is_connected():
            return False
        assert self._connection is not None
        try:
            self._connection.sendall(data)
            answer = self._connection.recv(1)
        except OSError:
            answer = b""
        if answer:
            self._pause = FIRST_PAUSE_SECONDS
        else:  # gone, or too slow
            self.close()
            self._rest()
        return answer == STORED

    def _is_connected(self) -> bool:
        now = time.monotonic()
        if self._connection is not None or not settings.GROUP_COMMIT or now < self._not_before:
            return self._connection is not None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(ANSWER_WITHIN_SECONDS)
        try:
            with control.short_path(COMMITTER_SOCKET) as path:
                connection.connect(path)
        except OSError:
            connection.close()
            self._rest()
            return False
        self._connection = connection
        return True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _rest(self) -> None:
        """A committer that is frozen costs each supervisor a wait now and then, not at each batch."""
        self._not_before = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LAST_PAUSE_SECONDS)
