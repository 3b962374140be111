"""Events of runs made into lines, and lines into groups: one for each execution of code.

static/console.js builds the same from the events that arrive later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.utils.safestring import SafeString

from sessions_app.console.ansi import LONGEST_LINE, Ink, Pen, painted, plain, shown
from sessions_app.models import Event

BLOCK = 200  # lines a block: a browser skips the layout of blocks out of sight
_MAX_TITLE = 120  # characters
_TRACEBACK = "Traceback (most recent call last)"
# after these, what is printed belongs to the next group
BORDERS = frozenset({"run_queued", "run_recovered", "step_started", "code_execution"})
CONSOLE_TYPES = BORDERS | {"output"}
INTERRUPTED = "Interrupted: what was under way begins again"


@dataclass
class Line:
    number: int
    stream: str
    raw: str
    seq: int = 0  # of the event with which it began: with the number, its place in the log
    at: datetime | None = None
    pen: Pen = field(default_factory=Pen)  # before its first character
    open: bool = False  # the stream's last line, without its newline yet
    is_partial: bool = False  # it began before what was read

    @property
    def text(self) -> str:
        return shown(self.raw)

    @property
    def whole(self) -> str:
        return plain(self.raw)

    @property
    def html(self) -> SafeString:
        return painted(self.raw, self.pen)

    @property
    def clock(self) -> str:
        return f"{self.at.astimezone(UTC):%H:%M:%S}Z" if self.at else ""

    @property
    def place(self) -> tuple[int, int]:
        return self.seq, self.number

    @property
    def is_bad(self) -> bool:
        return self.stream == "stderr" and self.raw.startswith(_TRACEBACK)


@dataclass
class Block:
    lines: list[Line] = field(default_factory=list)

    @property
    def first(self) -> Line:
        return self.lines[0]

    @property
    def last(self) -> Line:
        return self.lines[-1]


@dataclass
class Group:
    """What one execution printed. `key` is the seq of the event after which it began."""

    key: int
    run: int
    step: str = ""
    title: str = ""
    took: str = ""
    tone: str = "run"  # a class of app.css: run, ok, bad
    lines: list[Line] = field(default_factory=list)
    is_mark: bool = field(default=False, init=False)

    @property
    def blocks(self) -> list[Block]:
        return [Block(self.lines[at : at + BLOCK]) for at in range(0, len(self.lines), BLOCK)]

    def end(self, data: Mapping[str, Any]) -> None:
        """Its code ended: what it was, how long it took, and how it went."""
        self.tone = "ok" if did_well(data) else "bad"
        self.title = str(data["path"]).rpartition("/")[2][:_MAX_TITLE]
        self.took = duration(data["duration_s"])


@dataclass(frozen=True)
class Mark:
    """A line of the page's own between the lines of the code."""

    text: str
    seq: int
    is_mark: bool = field(default=True, init=False)


Item = Group | Mark


@dataclass(frozen=True)
class Context:
    """What came before the first event that is read."""

    border: int = 0  # seq
    step: str = ""
    title: str = ""


class Printed(NamedTuple):
    """An output event: what of it lines are made of."""

    seq: int
    data: Mapping[str, Any]
    at: datetime | None = None


class ConsoleBuilder:
    """Fed with the console's events of one run after the other, in order."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._group: Group | None = None
        self._open: dict[str, Line] = {}
        self._inks: dict[str, Ink] = {}
        self._run = 1
        self.context = Context()
        self._is_midway = False

    def begin_run(self, number: int, context: Context, *, midway: bool) -> None:
        """`midway`: the run has output before what comes."""
        self._run, self.context, self._is_midway = number, context, midway
        self._group = None
        self._open.clear()
        self._inks.clear()

    def add(self, event: Event) -> None:
        if event.event_type == "output":
            self.write(Printed(event.seq, event.data, event.created_at))
        else:
            self._cross(event)

    @property
    def open_lines(self) -> list[Line]:
        return list(self._open.values())

    def take_ended(self) -> list[Line]:
        """The lines up to the first that may go on; they are not kept here any longer."""
        lines = lines_of(self.items)
        begun = min((line.place for line in self.open_lines), default=None)
        ended = [line for line in lines if begun is None or line.place < begun]
        self.items.clear()
        self._group = None
        if rest := lines[len(ended) :]:
            self._into_group().lines.extend(rest)
        return ended

    @property
    def pens(self) -> dict[str, str]:
        """What each stream writes on in, once it had a colour."""
        return {stream: ink.pen.classes for stream, ink in self._inks.items()}

    # -- borders ------------------------------------------------------------------------------
    def _cross(self, event: Event) -> None:
        if event.event_type == "code_execution" and self._group:
            self._group.end(event.data)
        step, title = self.context.step, self.context.title
        if event.event_type == "step_started":
            step, title = f"Step {event.data['index']}", event.data["title"][:_MAX_TITLE]
        self.context = Context(event.seq, step, title)
        self._group = None
        if event.event_type == "run_recovered":
            self._mark(INTERRUPTED, event)
        elif event.event_type == "run_queued" and event.data["number"] > 1:
            self._mark(f"Run {event.data['number']}", event)

    def _mark(self, text: str, event: Event) -> None:
        self._is_midway = False
        self._open.clear()
        self._inks.clear()
        self.items.append(Mark(text, event.seq))

    def _into_group(self) -> Group:
        if self._group is None:
            now = self.context
            self._group = Group(key=now.border, run=self._run, step=now.step, title=now.title)
            self.items.append(self._group)
        return self._group

    # -- lines --------------------------------------------------------------------------------
    def write(self, output: Printed) -> None:
        data = output.data
        pieces = data["text"].split("\n")
        ended = pieces[-1] == ""
        if ended:
            pieces.pop()
        for offset, piece in enumerate(pieces):
            line = self._open.get(data["stream"]) if data["cont"] and not offset else None
            line = line or self._begin(output, data["line"] + offset)
            line.is_partial |= self._is_midway and data["cont"] and not line.raw and not offset
            self._extend(line, piece)
        if ended:
            self._open.pop(data["stream"], None)

    def _begin(self, output: Printed, number: int) -> Line:
        stream = output.data["stream"]
        ink = self._inks.setdefault(stream, Ink())
        line = Line(number, stream, "", output.seq, output.at, ink.pen)
        self._open[stream] = line
        self._into_group().lines.append(line)
        return line

    def _extend(self, line: Line, piece: str) -> None:
        self._inks[line.stream].write(piece)
        raw = line.raw + piece
        text = raw.rstrip("\r")
        start = text.rfind("\r") + 1  # what a progress bar overwrote
        line.pen = line.pen.after(raw[:start])
        # only what can still be shown is kept: one of 10 MB comes in hundreds of pieces
        line.raw = text[start:][: LONGEST_LINE + 1] + ("\r" if raw.endswith("\r") else "")


def did_well(data: Mapping[str, Any]) -> bool:
    """Of a code_execution: did it succeed?"""
    return bool(data["ended_by"] == "exit" and data["exit_code"] == 0)


def last_of(items: Iterable[Item], keep: int) -> list[Item]:
    """The last `keep` lines with the headings under which and the marks after which they stand."""
    kept: list[Item] = []
    for item in reversed(list(items)):
        if isinstance(item, Group):
            if not keep:
                break
            item.lines = item.lines[-keep:]
            keep -= len(item.lines)
        kept.append(item)
    return kept[::-1]


def first_of(items: Iterable[Item], keep: int) -> list[Item]:
    kept: list[Item] = []
    for item in items:
        if not keep:
            break
        if isinstance(item, Group):
            item.lines = item.lines[:keep]
            keep -= len(item.lines)
        kept.append(item)
    return kept


def lines_of(items: Iterable[Item]) -> list[Line]:
    return [line for item in items if isinstance(item, Group) for line in item.lines]


def duration(seconds: float) -> str:
    """0.4 → "0.4 s", 252 → "4:12"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
