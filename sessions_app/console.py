"""The lines of a session's console as a person reads them.

The page shows lines that arrive later with static/console.js, which cuts and folds them alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sessions_app.models import Event

CONSOLE_LINES = 1000
_BLOCK = 200  # lines a block: a browser skips the layout of blocks out of sight
_LONGEST_LINE = 4000  # characters shown; the whole console has all of it
_CONSOLE_BYTES = 1_000_000
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
# they turn what follows them around: text of a model or of code could look like other text
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")


def unmasked(text: str) -> str:
    """The text in the order in which it is written: what would turn it around is shown instead."""
    return _TURNING.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


@dataclass
class Line:
    number: int
    stream: str
    raw: str
    open: bool = False  # the stream's last line, without its newline yet
    is_mark: bool = field(default=False, init=False)

    @property
    def text(self) -> str:
        return _shown(self.raw)


@dataclass(frozen=True)
class Mark:
    """A line of the page's own between the lines of the code."""

    text: str
    is_mark: bool = field(default=True, init=False)


Row = Line | Mark
CONSOLE_TYPES = frozenset({"output", "run_queued", "run_recovered"})


@dataclass
class ConsoleTail:
    rows: list[Row] = field(default_factory=list)
    last_line: int = 0

    @property
    def blocks(self) -> list[list[Row]]:
        return [self.rows[at : at + _BLOCK] for at in range(0, len(self.rows), _BLOCK)]


def read_console_tail(newest_first: Iterable[Event]) -> ConsoleTail:
    """The last lines of a session's console; reads no more events than they need."""
    builder = _ConsoleBuilder()
    for event in reversed(list(_enough(newest_first))):
        builder.add(event)
    return builder.finish()


def _enough(newest_first: Iterable[Event]) -> Iterator[Event]:
    lines = size = 0
    for event in newest_first:
        yield event
        text = event.data.get("text", "")
        lines, size = lines + text.count("\n"), size + len(text)
        if lines >= CONSOLE_LINES or size >= _CONSOLE_BYTES:
            return


class _ConsoleBuilder:
    def __init__(self) -> None:
        self._tail = ConsoleTail()
        self._open: dict[str, Line] = {}

    def add(self, event: Event) -> None:
        if event.event_type == "output":
            self._add_output(event.data)
        elif event.event_type == "run_recovered":
            self._mark("Interrupted: what was under way begins again")
        elif event.event_type == "run_queued" and event.data["number"] > 1:
            self._mark(f"Run {event.data['number']}")

    def _mark(self, text: str) -> None:
        self._open.clear()
        self._tail.rows.append(Mark(text))

    def _add_output(self, data: Mapping[str, Any]) -> None:
        pieces = data["text"].split("\n")
        ended = pieces[-1] == ""
        for offset, piece in enumerate(pieces[:-1] if ended else pieces):
            self._add_piece(
                data, data["line"] + offset, piece, continues=data["cont"] and not offset
            )
        if ended:
            self._open.pop(data["stream"], None)

    def _add_piece(
        self, data: Mapping[str, Any], number: int, piece: str, *, continues: bool
    ) -> None:
        line = self._open.get(data["stream"]) if continues else None
        if line is None:
            line = self._open[data["stream"]] = Line(number, data["stream"], "")
            self._tail.rows.append(line)
            self._tail.last_line = number
        line.raw = _kept(line.raw + piece)

    def finish(self) -> ConsoleTail:
        for line in self._open.values():
            line.open = True
        del self._tail.rows[:-CONSOLE_LINES]
        return self._tail


def _folded(text: str) -> str:
    r"""A progress bar overwrites its line with \r: what a terminal would show in the end."""
    return text.rstrip("\r").rpartition("\r")[2]


def _kept(raw: str) -> str:
    """What of a line can still be shown: one of 10 MB comes in hundreds of pieces."""
    return _folded(raw)[: _LONGEST_LINE + 1] + ("\r" if raw.endswith("\r") else "")


def _shown(raw: str) -> str:
    text = unmasked(_ESCAPES.sub("", _folded(raw)))
    if len(text) <= _LONGEST_LINE:
        return text
    return f"{text[:_LONGEST_LINE]} … (the whole log has the rest)"
