"""Carries what executed code prints to the run's console, counts it, and ends the code that
prints too much."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from collections.abc import Callable

CONSOLE = (1, 2)  # our own stdout and stderr: the supervisor reads them
_CHUNK = 64 * 1024
_HEAD = 4_000  # bytes of each stream that are kept from its begin, and from its end
_TAIL = 8_000


class Excerpt:
    """The begin and the end of what was printed, however long it was."""

    def __init__(self) -> None:
        self._head = self._tail = b""
        self._size = 0

    def add(self, data: bytes) -> None:
        room = _HEAD - len(self._head)
        self._head += data[:room]
        self._tail = (self._tail + data[room:])[-_TAIL:]
        self._size += len(data)

    def text(self) -> str:
        left_out = self._size - len(self._head) - len(self._tail)
        if not left_out:
            return _decoded(self._head + self._tail)
        return f"{_decoded(self._head)}\n[… {left_out:,} bytes left out …]\n{_decoded(self._tail)}"

    def end(self) -> str:
        return _decoded(self._head + self._tail)[-_TAIL:]


class Relay:
    """The pipes of one execution. `run` blocks, so it belongs in a thread: when the supervisor is
    slow it stands in a write, the code's pipe fills, and the code waits too."""

    def __init__(self, max_bytes: int) -> None:
        (out, self.stdout), (err, self.stderr) = os.pipe(), os.pipe()
        self._ended, self._end = os.pipe()
        self._console = dict(zip((out, err), CONSOLE, strict=True))
        self._left = max_bytes
        self.printed = {stream: Excerpt() for stream in CONSOLE}

    def launched(self) -> None:
        """The code has its ends of the pipes now: without ours, its end is their end."""
        os.close(self.stdout)
        os.close(self.stderr)

    def tree_ended(self) -> None:
        """All processes of the execution are dead: take what is left and stop. A process that got
        away and holds a pipe open must not hold up the run."""
        os.close(self._end)

    @property
    def is_over_limit(self) -> bool:
        return self._left < 0

    def run(self, on_limit: Callable[[], None]) -> None:
        """Returns when both pipes are at their end or the tree has ended. `on_limit` is called
        once, when the code has printed more than it may; up to there everything is kept."""
        try:
            self._relay_until_the_end(on_limit)
        finally:
            for descriptor in (*self._console, self._ended):
                os.close(descriptor)

    def _relay_until_the_end(self, on_limit: Callable[[], None]) -> None:
        poller = select.poll()
        open_pipes = set(self._console)
        for descriptor in (*open_pipes, self._ended):
            poller.register(descriptor, select.POLLIN)
        while open_pipes:
            ready = {descriptor for descriptor, _ in poller.poll()}
            for pipe in sorted(ready & open_pipes):
                if not self._relay(pipe, _CHUNK, on_limit):
                    poller.unregister(pipe)
                    open_pipes.discard(pipe)
            if self._ended in ready:
                self._relay_what_is_left(open_pipes, on_limit)
                return

    def _relay_what_is_left(self, pipes: set[int], on_limit: Callable[[], None]) -> None:
        for pipe in sorted(pipes):
            left = _readable_bytes(pipe)  # now: one that got away may go on writing for ever
            while left > 0:
                left -= self._relay(pipe, min(left, _CHUNK), on_limit)

    def _relay(self, pipe: int, size: int, on_limit: Callable[[], None]) -> int:
        data = os.read(pipe, size)
        allowed = data[: max(self._left, 0)]
        self.printed[self._console[pipe]].add(allowed)
        _write_all(self._console[pipe], allowed)
        was_over, self._left = self.is_over_limit, self._left - len(data)
        if self.is_over_limit and not was_over:
            on_limit()
        return len(data)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace").replace("\0", "\ufffd")


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _readable_bytes(pipe: int) -> int:
    answer = fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
