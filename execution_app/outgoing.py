"""What an engine is told and has not read yet.

Nothing here waits: as much is written as the engine takes now, in pieces, so that a journal of
many megabytes leaves the supervisor its time for output and lease.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from cmbagent import wire
from execution_app import services
from execution_app.patience import AWAY

TURN_BYTES = 1024 * 1024  # written at a stretch

Message = Mapping[str, Any]


class Outgoing:
    """Messages in order. `send` takes the beginning of what it gets, or raises BlockingIOError."""

    def __init__(self, send: Callable[[memoryview], int]) -> None:
        self._send = send
        self._waiting: deque[memoryview | Iterator[Message]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, message: Message) -> None:
        self._waiting.append(memoryview(wire.encode(message)))

    def add_each(self, messages: Iterator[Message]) -> None:
        """Each is fetched when those before it have gone: one is in memory, not all."""
        self._waiting.append(messages)

    def write(self) -> None:
        """Raises OSError when nobody reads any more."""
        room = TURN_BYTES
        while room > 0 and (piece := self._first()) is not None:
            try:
                sent = self._send(piece)
            except BlockingIOError:
                return
            room -= sent
            self._waiting[0] = piece[sent:]

    def drop(self) -> None:
        self._waiting.clear()

    def _first(self) -> memoryview | None:
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, memoryview):
                if first:
                    return first
                self._waiting.popleft()
            elif (message := next(first, None)) is not None:
                self._waiting.appendleft(memoryview(wire.encode(message)))
            else:
                self._waiting.popleft()
        return None


class JournalReader:
    """The entries of a run in the order of their commits, one by one. The run must be ours: its
    journal stands still meanwhile."""

    def __init__(self, run_id: uuid.UUID) -> None:
        self._run_id = run_id
        self._given = 0
        self._entries = services.journal_of(run_id)

    def next(self) -> wire.Entry | None:
        """None after the last. When the database is away it raises, and may be called again."""
        try:
            entry = next(self._entries, None)
        except AWAY:  # a generator that raised is over
            self._entries = islice(services.journal_of(self._run_id), self._given, None)
            raise
        self._given += 1
        return entry
