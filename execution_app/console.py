"""Bytes of two pipes in, numbered `output` events out; memory bounded by what a flush takes."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from sessions_app.event_types import Output, storable

Stream = Literal["stdout", "stderr"]
MAX_TEXT_BYTES = 30_000  # as JSON; the event around it stays below 32 KB
_SLICE = 24_000  # characters tried at first
HOLD_SECONDS = 0.05  # a line without its end is waited for this long


def _decoder() -> codecs.IncrementalDecoder:
    # incremental: a character cut in two by a read is not taken for broken bytes
    return codecs.getincrementaldecoder("utf-8")("backslashreplace")


@dataclass
class _Pipe:
    decoder: codecs.IncrementalDecoder = field(default_factory=_decoder)
    text: str = ""
    since: float = 0.0  # when the oldest text here arrived
    open_line: int | None = None  # the line that the event before left without its end


class Console:
    """One run's console. Lines are numbered over both streams, in the order of their beginning."""

    def __init__(self, next_line: int) -> None:
        self._next_line = next_line
        self._pipes: dict[Stream, _Pipe] = {"stdout": _Pipe(), "stderr": _Pipe()}

    @property
    def size(self) -> int:
        return sum(len(pipe.text) for pipe in self._pipes.values())

    def feed(self, stream: Stream, data: bytes, *, now: float) -> None:
        pipe = self._pipes[stream]
        if not pipe.text:
            pipe.since = now
        pipe.text += pipe.decoder.decode(data)

    def close(self, stream: Stream) -> None:
        """The pipe ended: what was half a character is shown as the bytes it is."""
        pipe = self._pipes[stream]
        pipe.text += pipe.decoder.decode(b"", final=True)

    def take(self, *, now: float, everything: bool = False) -> list[Output]:
        """The events for what arrived. Half a line is held back for a moment, then shown."""
        events: list[Output] = []
        for stream, pipe in self._pipes.items():
            whole = everything or now >= pipe.since + HOLD_SECONDS or len(pipe.text) > _SLICE
            end = len(pipe.text) if whole else pipe.text.rfind("\n") + 1
            taken, pipe.text = pipe.text[:end], pipe.text[end:]
            if pipe.text:
                pipe.since = now
            if taken:
                events.extend(self._events(stream, pipe, storable(taken)))
        return events

    def _events(self, stream: Stream, pipe: _Pipe, text: str) -> Iterator[Output]:
        for piece in _bounded(self._split_after_open_line(pipe, text)):
            yield self._event(stream, pipe, piece)

    def _split_after_open_line(self, pipe: _Pipe, text: str) -> list[str]:
        """What ends an open line is an event of its own when other lines began meanwhile:
        an event's lines are numbered one after the other."""
        end = text.find("\n") + 1
        if pipe.open_line is None or pipe.open_line + 1 == self._next_line or not end:
            return [text]
        return [text[:end], text[end:]]

    def _event(self, stream: Stream, pipe: _Pipe, text: str) -> Output:
        continues = pipe.open_line is not None
        first = pipe.open_line if pipe.open_line is not None else self._next_line
        last = first + text.count("\n")
        if text.endswith("\n"):
            self._next_line = max(self._next_line, last)
            pipe.open_line = None
        else:
            self._next_line = max(self._next_line, last + 1)
            pipe.open_line = last
        return Output(stream=stream, line=first, text=text, cont=continues)


def _bounded(texts: list[str]) -> Iterator[str]:
    """The same text in pieces that fit an event; control characters take six bytes as JSON."""
    for text in texts:
        start = 0
        while start < len(text):
            length = _SLICE
            while _encoded(text[start : start + length]) > MAX_TEXT_BYTES:
                length //= 2
            yield text[start : start + length]
            start += length


def _encoded(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode())
