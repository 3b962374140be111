"""Looking for a text in all that a session printed; bounded in time and in count."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from execution_app.models import Run
from sessions_app.console.pages import LAST, Place, outputs_of
from sessions_app.console.rows import ConsoleBuilder, Context, Line, Printed, lines_of

MAX_HITS = 200
MAX_SECONDS = 2.0
MAX_NEEDLE = 200  # characters
_READ_AT_ONCE = 100  # events, 32 KB each at most: time is looked at after them
_EXCERPT = 160  # characters of a line, around what was found
_BEGIN: Place = (0, 0)


@dataclass(frozen=True)
class Hit:
    """A line with the text, cut around it, and its neighbours."""

    run: int
    number: int
    before: str
    found: str
    after: str
    above: str = ""
    below: str = ""

    @property
    def anchor(self) -> str:
        return anchor(self.run, self.number)


@dataclass(frozen=True)
class Found:
    hits: Sequence[Hit]
    next: Place | None = None  # to look on from there; None: everything was looked at


def anchor(run: int, line: int) -> str:
    """How a link names a line: #L12 in the first run, #R2L12 in the second."""
    return f"L{line}" if run == 1 else f"R{run}L{line}"


def find_lines(
    session_id: uuid.UUID,
    needle: str,
    *,
    after: Place = _BEGIN,
    until: int = LAST,
    seconds: float = MAX_SECONDS,
) -> Found:
    """The next lines with these words, whatever their case, in order."""
    deadline = time.monotonic() + seconds
    wanted = needle.casefold()
    hits: list[Hit] = []
    place = after
    for run, lines, new in _pages(session_id, after=after, until=until):
        if place != after and time.monotonic() > deadline:
            return Found(hits, place)
        for index in new:
            line = lines[index]
            place = max(place, line.place)
            if line.place <= after or wanted not in (text := line.whole).casefold():
                continue
            hits.append(_hit(run, lines, index, text, wanted))
            if len(hits) >= MAX_HITS:
                return Found(hits, line.place)
    return Found(hits)


def _hit(run: Run, lines: Sequence[Line], index: int, text: str, wanted: str) -> Hit:
    line = lines[index]
    at = text.casefold().find(wanted)  # off by a little where folding lengthens: only for the eye
    start = max(0, at - _EXCERPT // 4)
    end = at + len(wanted)
    return Hit(
        run.number,
        line.number,
        before="…" * bool(start) + text[start:at],
        found=text[at:end],
        after=text[end : start + _EXCERPT],
        above=lines[index - 1].whole[:_EXCERPT] if index else "",
        below=lines[index + 1].whole[:_EXCERPT] if index + 1 < len(lines) else "",
    )


def _pages(
    session_id: uuid.UUID, *, after: Place, until: int
) -> Iterator[tuple[Run, list[Line], range]]:
    """All lines in order, run by run, a few events at a time, and which of them come for the first
    time: a page begins with the end of the one before, so that each line has its neighbours."""
    for run in Run.objects.filter(session=session_id).order_by("number"):
        builder = ConsoleBuilder()
        builder.begin_run(run.number, Context(), midway=False)
        cursor = after[0] - 1
        kept: list[Line] = []
        first = 0
        while printed := _printed(run, cursor, until):
            for output in printed:
                builder.write(output)
            cursor = printed[-1].seq
            lines = kept + builder.take_ended()
            yield run, lines, range(first, len(lines) - 1)
            kept = lines[-2:]
            first = max(0, len(kept) - 1)
        lines = kept + lines_of(builder.items)
        yield run, lines, range(first, len(lines))


def _printed(run: Run, after: int, until: int) -> list[Printed]:
    """Without the rest of the event, which would take three times as long."""
    coming = outputs_of(run).filter(seq__gt=after, seq__lte=until).order_by("seq")
    return [Printed(*row) for row in coming.values_list("seq", "data")[:_READ_AT_ONCE]]
