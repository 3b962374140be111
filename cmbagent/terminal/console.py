"""What executed code prints, caught where the relay writes it: descriptors 1 and 2."""

from __future__ import annotations

import asyncio
import codecs
import io
import os
from collections.abc import Callable
from typing import Self

from cmbagent.relay import CONSOLE

_CHUNK = 4 * 1024  # written as JSON at most six times that: no event is over 32 KB
_NAMES = dict(zip(CONSOLE, ("stdout", "stderr"), strict=True))

Hear = Callable[[str, str], None]  # the stream's name, text


class Console:
    """While it is entered, 1 and 2 are pipes of ours, and `stdout` and `stderr` are the real ones.
    What comes out of the pipes is heard in order with whatever else is shown: `drain` first."""

    def __init__(self) -> None:
        self._real = {number: os.dup(number) for number in CONSOLE}
        self.stdout, self.stderr = (_text_file(self._real[number]) for number in CONSOLE)
        self._pipes: dict[int, int] = {}  # the end to read: the descriptor that it stands for
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {number: decoder("backslashreplace") for number in CONSOLE}
        self._hear: Hear = lambda *_: None

    def __enter__(self) -> Self:
        for number in CONSOLE:
            read, write = os.pipe()
            os.dup2(write, number)
            os.close(write)
            os.set_blocking(read, False)
            self._pipes[read] = number
        return self

    def __exit__(self, *_: object) -> None:
        for number, real in self._real.items():
            os.dup2(real, number)
        for read in self._pipes:
            os.close(read)

    def listen(self, hear: Hear) -> None:
        """Have everything heard as it comes; belongs into the event loop."""
        self._hear = hear
        for read in self._pipes:
            asyncio.get_running_loop().add_reader(read, self._read_once, read)

    def drain(self) -> None:
        """What was printed before is heard before."""
        for read in self._pipes:
            while self._read_once(read):
                pass

    def _read_once(self, read: int) -> bool:
        try:
            data = os.read(read, _CHUNK)
        except BlockingIOError:
            return False
        number = self._pipes[read]
        if text := self._decoders[number].decode(data):
            self._hear(_NAMES[number], text)
        return True


def _text_file(descriptor: int) -> io.TextIOWrapper:
    # lone surrogates and what the locale cannot write must not end a run
    file = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(file), encoding="utf-8", errors="backslashreplace", newline=""
    )
