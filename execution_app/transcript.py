"""A run's console as one text, read from the log a little at a time.

Memory is bounded whatever was printed: a few events, or one line of at most MAX_LINE characters.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from django.db.models import QuerySet

from sessions_app.event_types import Output
from sessions_app.models import Event

READ_AT_ONCE = 50  # events, 32 KB each at most
CHUNK_CHARACTERS = 64 * 1024
MAX_LINE = 2**20  # `grep` looks at a longer line in pieces


@dataclass(frozen=True)
class _Piece:
    """The text of one output event."""

    seq: int
    stream: str
    text: str
    cont: bool

    def begins_line_after(self, before: _Piece) -> bool:
        """Must a newline stand between? The other stream, or a new attempt, begins its own line."""
        return not before.text.endswith("\n") and not (self.cont and self.stream == before.stream)


def transcript(
    run_id: uuid.UUID, *, tail: int | None = None, grep: str | None = None
) -> Iterator[bytes]:
    """What was printed up to now, in order; of it the lines with `grep`, of these the last `tail`.

    Both streams in one: a newline is put where one stream breaks into a line of the other.
    """
    output = _Output(run_id)
    if grep is not None:
        texts = _matching(output, grep, tail)
    elif tail is not None:
        texts = _last_lines(output, tail)
    else:
        texts = _joined(output.pieces())
    return (chunk.encode() for chunk in _chunked(texts))


class _Output:
    """The output events of a run as far as they were written when we began to look."""

    def __init__(self, run_id: uuid.UUID) -> None:
        events = Event.objects.filter(run_id=run_id, event_type=Output.event_type)
        self._last = events.order_by("-seq").values_list("seq", flat=True).first() or 0
        self._events: QuerySet[Event] = events

    def pieces(self, after: int = 0) -> Iterator[_Piece]:
        while events := list(
            self._events.filter(seq__gt=after, seq__lte=self._last).order_by("seq")[:READ_AT_ONCE]
        ):
            yield from _pieces(events)
            after = events[-1].seq

    def pieces_backwards(self) -> Iterator[_Piece]:
        before = self._last + 1
        while events := list(self._events.filter(seq__lt=before).order_by("-seq")[:READ_AT_ONCE]):
            yield from _pieces(events)
            before = events[-1].seq


def _pieces(events: list[Event]) -> Iterator[_Piece]:
    for event in events:
        data = event.data
        if data["text"]:
            yield _Piece(event.seq, data["stream"], data["text"], data["cont"])


def _joined(pieces: Iterator[_Piece]) -> Iterator[str]:
    before: _Piece | None = None
    for piece in pieces:
        if before is not None and piece.begins_line_after(before):
            yield "\n"
        yield piece.text
        before = piece


def _last_lines(output: _Output, tail: int) -> Iterator[str]:
    first, surplus = _where_tail_begins(output, tail)
    return _without_first_lines(_joined(output.pieces(after=first - 1)), surplus)


def _where_tail_begins(output: _Output, tail: int) -> tuple[int, int]:
    """The event in which the last `tail` lines begin, and how many lines of it come before."""
    ends, first = 0, 1
    following: _Piece | None = None
    for piece in output.pieces_backwards():
        ends += piece.text.count("\n")
        if following is None:
            ends += not piece.text.endswith("\n")  # the last line may lack its end
        else:
            ends += following.begins_line_after(piece)
        first, following = piece.seq, piece
        if ends > tail:
            return first, ends - tail
    return first, 0


def _without_first_lines(texts: Iterator[str], surplus: int) -> Iterator[str]:
    for text in texts:
        rest = text
        while surplus and rest:
            _, end, rest = rest.partition("\n")
            surplus -= len(end)
        yield rest


def _matching(output: _Output, grep: str, tail: int | None) -> Iterator[str]:
    if tail is None:
        return _lines_with(grep, output)
    count = sum(1 for _ in _lines_with(grep, output))
    return islice(_lines_with(grep, output), max(0, count - tail), None)


def _lines_with(grep: str, output: _Output) -> Iterator[str]:
    return (line + "\n" for line in _lines(_joined(output.pieces())) if grep in line)


def _lines(texts: Iterator[str]) -> Iterator[str]:
    begun = ""
    for text in texts:
        *whole, begun = (begun + text).split("\n")
        yield from whole
        if len(begun) > MAX_LINE:
            yield begun
            begun = ""
    if begun:
        yield begun


def _chunked(texts: Iterator[str]) -> Iterator[str]:
    """The same text in fewer, bigger pieces: each costs a change of thread on its way out."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= CHUNK_CHARACTERS:
            yield "".join(waiting)
            waiting, size = [], 0
    if size:
        yield "".join(waiting)
