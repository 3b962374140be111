"""Events as a person reads them: entries of the conversation, lines of the console.

The page shows lines that arrive later with static/console.js, which cuts and folds them alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sessions_app.models import Event

CONSOLE_LINES = 1000
_BLOCK = 200  # lines a block: a browser skips the layout of blocks out of sight
_LONGEST_LINE = 4000  # characters shown; the whole console has all of it
_CONSOLE_BYTES = 1_000_000
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
_FENCED = re.compile(r"^```[^\n`]*\n(.*?)(?:^```[ \t]*$\n?|\Z)", re.MULTILINE | re.DOTALL)


# -- the conversation -------------------------------------------------------------------------
@dataclass(frozen=True)
class Part:
    is_code: bool
    text: str


@dataclass(frozen=True)
class Entry:
    """One thing said, or one thing that happened. `tone` is a class of app.css."""

    kind: str  # you, agent, note
    title: str
    detail: str = ""
    text: str = ""
    tone: str = ""
    seq: int = 0
    at: datetime | None = None

    @property
    def parts(self) -> list[Part]:
        return list(_parts(self.text))


Data = Mapping[str, Any]


def _said_by_user(data: Data) -> Entry:
    return Entry("you", "You", text=data["content"])


def _said_by_agent(data: Data) -> Entry:
    name = "CMBAgent" if data["agent"] == "cmbagent" else data["agent"]
    return Entry("agent", name, text=data["content"])


def _started(data: Data) -> Entry:
    level = data["sandbox_level"]
    sandbox = f"sandbox level {level}" if level else "no sandbox"
    model = data["model"].replace("no-model", "no model")
    return Entry("note", f"Attempt {data['attempt']} started", f"{sandbox} · {model}", tone="run")


def _recovered(data: Data) -> Entry:
    text = "The code starts again. What it had printed stays in the console, above the mark."
    return Entry("note", "Interrupted, going on by itself", data["reason"], text, tone="run")


def _completed(data: Data) -> Entry:
    files = len(data["files"])
    detail = f"{_seconds(data['execution_time_s'])} · {files} file{'' if files == 1 else 's'}"
    # its summary is the engine's last message, which stands right above
    return Entry("note", "Completed", detail, tone="ok")


def _failed(data: Data) -> Entry:
    text = "\n".join(filter(None, [data["message"], data["suggestion"]]))
    return Entry("note", f"Failed: {data['error_type']}", text=text, tone="bad")


def _cancelled(data: Data) -> Entry:
    ended = data["processes_ended"]
    tree = f" · {ended} process{'' if ended == 1 else 'es'} ended" if ended else ""
    return Entry("note", "Stopped", f"by {data['by']}{tree}")


def _executed(data: Data) -> Entry:
    fine = data["ended_by"] == "exit" and data["exit_code"] == 0
    detail = _seconds(data["duration_s"]) + ("" if fine else f" · {_ending(data)}")
    return Entry("note", f"Ran {data['path']}", detail, tone="ok" if fine else "bad")


def _ending(data: Data) -> str:
    if data["ended_by"] == "exit":
        return f"exit code {data['exit_code']}"
    return str(data["ended_by"]).replace("_", " ")


_ENTRIES: dict[str, Callable[[Data], Entry]] = {
    "user_message": _said_by_user,
    "agent_message": _said_by_agent,
    "run_started": _started,
    "run_recovered": _recovered,
    "run_completed": _completed,
    "run_failed": _failed,
    "run_cancelled": _cancelled,
    "run_paused": lambda data: Entry("note", "Paused", _by(data)),
    "run_resumed": lambda data: Entry("note", "Resumed", _by(data), tone="run"),
    "code_execution": _executed,
    "phase_changed": lambda data: Entry("note", data["phase"], tone="run"),
    "error": lambda data: Entry("note", data["error_type"], text=data["message"], tone="bad"),
}
TALK_TYPES = frozenset(_ENTRIES)


def make_entries(events: Iterable[Event]) -> list[Entry]:
    """The conversation of these events; types that are no talk are left out."""
    return [_entry(event) for event in events if event.event_type in _ENTRIES]


def _entry(event: Event) -> Entry:
    made = _ENTRIES[event.event_type](event.data)
    return Entry(
        made.kind, made.title, made.detail, made.text, made.tone, event.seq, event.created_at
    )


def _by(data: Data) -> str:
    return f"by {data['by']}" if data.get("by") else ""


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else clock(value)


def clock(seconds: float) -> str:
    """75 → "1:15", 3675 → "1:01:15"."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(seconds: float) -> str:
    """How long since something was: 30 → "just now", 7200 → "2 h ago"."""
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} ago"
    return "just now"


def _parts(text: str) -> Iterator[Part]:
    """Prose and fenced code of a message, in order."""
    for index, piece in enumerate(_FENCED.split(text)):
        if trimmed := piece.strip("\n").rstrip():
            yield Part(is_code=index % 2 == 1, text=trimmed)


# -- the console ------------------------------------------------------------------------------
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
            self._mark("Interrupted: the code starts again")
        elif event.event_type == "run_queued" and event.data["number"] > 1:
            self._mark(f"Run {event.data['number']}")

    def _mark(self, text: str) -> None:
        self._open.clear()
        self._tail.rows.append(Mark(text))

    def _add_output(self, data: Data) -> None:
        pieces = data["text"].split("\n")
        ended = pieces[-1] == ""
        for offset, piece in enumerate(pieces[:-1] if ended else pieces):
            self._add_piece(
                data, data["line"] + offset, piece, continues=data["cont"] and not offset
            )
        if ended:
            self._open.pop(data["stream"], None)

    def _add_piece(self, data: Data, number: int, piece: str, *, continues: bool) -> None:
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
    text = _ESCAPES.sub("", _folded(raw))
    if len(text) <= _LONGEST_LINE:
        return text
    return f"{text[:_LONGEST_LINE]} … (the whole log has the rest)"
