"""Events as a person reads them: entries of the conversation, and what is being said just now.

What agents say is Markdown; what people and programs say stays as they wrote it, but for fenced code.
The page shows what an agent says meanwhile with static/drafts.js, which unmasks it alike.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from django.utils.safestring import SafeString, mark_safe

from sessions_app.console import unmasked
from sessions_app.models import Event
from sessions_app.modes import NO_MODEL
from sessions_app.rendering.code import block_html, laid_out
from sessions_app.rendering.markdown import Setting, markdown_html, plain_html, run_files

_MAX_TITLE = 200  # characters of a step's title
_MAX_PARTS = 100_000  # characters of a message in which fenced code is looked for
_FENCED = re.compile(r"^```([^\n`]*)\n(.*?)(?:^```[ \t]*$\n?|\Z)", re.MULTILINE | re.DOTALL)


# -- the conversation -------------------------------------------------------------------------
@dataclass(frozen=True)
class Part:
    is_code: bool
    text: str
    language: str = ""

    @property
    def code(self) -> SafeString:
        return mark_safe(block_html(self.text, self.language))  # noqa: S308  escaped there


@dataclass(frozen=True)
class Fold:
    """Something long, folded away until somebody asks."""

    label: str
    text: str
    language: str = ""

    @property
    def code(self) -> SafeString:
        shown = block_html(unmasked(self.text), self.language, self.label)
        return mark_safe(shown)  # noqa: S308  escaped there


_SETTING = Setting()


@dataclass(frozen=True)
class Entry:
    """One thing said, or one thing that happened. `tone` is a class of app.css."""

    kind: str  # you, agent, note, tool
    title: str
    detail: str = ""
    text: str = ""
    tone: str = ""
    seq: int = 0
    at: datetime | None = None
    folds: tuple[Fold, ...] = ()
    agent: str = ""  # as in the log, where one speaks
    is_markdown: bool = False
    link: str = ""  # what the title leads to
    setting: Setting = _SETTING

    @property
    def is_plain(self) -> bool:
        """Too long to look into: shown as it is."""
        return not self.is_markdown and len(self.text) > _MAX_PARTS

    @property
    def prose(self) -> SafeString:
        """Of Markdown, and of what is too long."""
        made = plain_html(self.text) if self.is_plain else markdown_html(self.text, self.setting)
        return mark_safe(made)  # noqa: S308  sanitised there

    @property
    def parts(self) -> list[Part]:
        return list(_parts(self.text))


Data = Mapping[str, Any]
Levels = Mapping[uuid.UUID | None, int | None]  # the sandbox level of each run


def _said_by_user(data: Data) -> Entry:
    return Entry("you", "You", text=data["content"])


def speaker(agent: str) -> str:
    return "CMBAgent" if agent == "cmbagent" else agent


def _said_by_agent(data: Data) -> Entry:
    agent = data["agent"]
    return Entry("agent", speaker(agent), text=data["content"], agent=agent, is_markdown=True)


def _started(data: Data) -> Entry:
    level = data["sandbox_level"]
    sandbox = f"sandbox level {level}" if level else "no sandbox"
    model = "no AI is used" if data["model"] == NO_MODEL else data["model"]
    return Entry("note", f"Attempt {data['attempt']} started", f"{sandbox} · {model}", tone="run")


def _recovered(data: Data) -> Entry:
    text = "What was finished stays. Only what was under way is done again; what its code had "
    text += "printed stays in the console, above the mark."
    return Entry("note", "Interrupted, going on by itself", data["reason"], text, tone="run")


def _postponed(data: Data) -> Entry:
    until = datetime.fromisoformat(data["until"]).astimezone(UTC)
    text = f"Because: {data['message']}\nIt goes on by itself then."
    return Entry("note", f"Waiting until {until:%H:%M} UTC", data["error_type"], text, tone="run")


def _completed(data: Data) -> Entry:
    files = len(data["files"])
    made = f"{files} file{'' if files == 1 else 's'}"
    cost = "cost unknown" if data["cost_usd"] is None else f"cost {money(data['cost_usd'])}"
    # its summary is the engine's last message, which stands right above
    detail = f"{_seconds(data['execution_time_s'])} · {made} · {cost}"
    return Entry("note", "Completed", detail, tone="ok")


def money(usd: float | Decimal | None) -> str:
    """In USD; a cost that nobody knows is not zero."""
    if usd is None:
        return "unknown"
    if usd and usd < Decimal("0.0001"):
        return "below $0.0001"
    return f"${usd:.4f}" if 0 < usd < 1 else f"${usd:,.2f}"


def _failed(data: Data) -> Entry:
    text = "\n".join(filter(None, [data["message"], data["suggestion"]]))
    return Entry("note", f"Failed: {data['error_type']}", text=text, tone="bad")


def _cancelled(data: Data) -> Entry:
    ended = data["processes_ended"]
    tree = f" · {ended} process{'' if ended == 1 else 'es'} ended" if ended else ""
    return Entry("note", "Stopped", f"by {data['by']}{tree}")


def _executed(data: Data) -> Entry:
    fine = data["ended_by"] == "exit" and data["exit_code"] == 0
    detail = f"{_seconds(data['duration_s'])} · {_ending(data)}"
    name = str(data["path"]).rpartition("/")[2]
    return Entry("note", f"Ran {name}", detail, tone="ok" if fine else "bad")


def _ending(data: Data) -> str:
    if data["ended_by"] == "exit":
        return f"exit code {data['exit_code']}"
    return f"ended by {str(data['ended_by']).replace('_', ' ')}"


def _called(data: Data) -> Entry:
    """Code is shown as code, other arguments as JSON, both folded away."""
    arguments = dict(data["arguments"])
    folds = [Fold("Code", code, "python")] if (code := str(arguments.pop("code", ""))) else []
    if arguments:
        shown = laid_out(arguments) or json.dumps(arguments, ensure_ascii=False)
        folds.append(Fold("Arguments", shown, "json"))
    if data["result"]:
        folds.append(_result(data["result"]))
    name = str(data["tool_name"])
    return Entry("tool", name, _size_of(code), folds=tuple(folds))


def _result(result: str) -> Fold:
    """JSON on lines of its own, anything else as it is."""
    try:
        shown = laid_out(json.loads(result))
    except (ValueError, RecursionError):
        shown = None
    return Fold("Result", shown, "json") if shown else Fold("Result", result)


def _size_of(code: str) -> str:
    lines = len(code.splitlines())
    return f"{lines} line{'' if lines == 1 else 's'} of Python" if code else ""


def _step(data: Data, word: str, text: str = "", tone: str = "") -> Entry:
    title = data["title"][:_MAX_TITLE]
    name = f"Step {data['index']}{word}: {title}"
    return Entry("note", name, text=text, tone=tone, is_markdown=True)


def _step_started(data: Data) -> Entry:
    made = _step(data, "", tone="run")
    return replace(made, detail=speaker(data["agent"]))


_ENTRIES: dict[str, Callable[[Data], Entry]] = {
    "user_message": _said_by_user,
    "agent_message": _said_by_agent,
    "run_started": _started,
    "run_recovered": _recovered,
    "run_completed": _completed,
    "run_failed": _failed,
    "run_cancelled": _cancelled,
    "run_postponed": _postponed,
    "run_paused": lambda data: Entry("note", "Paused", _by(data)),
    "run_resumed": lambda data: Entry("note", "Resumed", _by(data), tone="run"),
    "code_execution": _executed,
    "tool_call": _called,
    "step_started": _step_started,
    "step_completed": lambda data: _step(data, " done", data["summary"], "ok"),
    "step_failed": lambda data: _step(data, " failed", data["error"], "bad"),
    "step_skipped": lambda data: _step(data, " skipped"),
    "phase_changed": lambda data: Entry("note", data["phase"], tone="run"),
    "error": lambda data: Entry("note", data["error_type"], text=data["message"], tone="bad"),
}
TALK_TYPES = frozenset(_ENTRIES)


def make_entries(events: Iterable[Event], levels: Levels = MappingProxyType({})) -> list[Entry]:
    """The conversation of these events; types that are no talk are left out."""
    return [_entry(event, levels) for event in events if event.event_type in _ENTRIES]


def _entry(event: Event, levels: Levels) -> Entry:
    made = _ENTRIES[event.event_type](event.data)
    detail, link = made.detail, ""
    if event.event_type == "code_execution":
        link = _file_link(event, event.data["path"])
    if event.event_type == "code_execution" and (level := levels.get(event.run_id)):
        detail += f" · sandbox level {level}"
    return replace(
        made,
        title=unmasked(made.title),
        detail=unmasked(detail),
        text=unmasked(made.text),
        seq=event.seq,
        at=event.created_at,
        link=link,
        setting=Setting(file_address=run_files(event.run_id) if event.run_id else None),
    )


def _file_link(event: Event, path: str) -> str:
    """The page of a file that a run made."""
    query = f"?run={event.run_id}" if event.run_id else ""
    return f"/sessions/{event.session_id}/files/{quote(path)}{query}"


# -- what an agent is saying just now ---------------------------------------------------------
DRAFT_TYPES = frozenset({"agent_delta", "agent_message"})
# after these, what somebody had begun to say will not be ended
ENDS_OF_TALK = frozenset(
    {
        *("run_started", "run_recovered", "run_postponed", "run_paused", "run_queued"),
        *("run_cancelled", "run_failed", "run_completed"),
    }
)


@dataclass
class Draft:
    """The words of an agent whose message is not there yet; `agent` as in the log."""

    agent: str
    text: str

    @property
    def title(self) -> str:
        return speaker(self.agent)


def read_drafts(newest_first: Iterable[Event]) -> list[Draft]:
    """What agents are saying just now: from events of DRAFT_TYPES and ENDS_OF_TALK."""
    done: set[str] = set()
    parts: dict[str, list[str]] = {}
    for event in newest_first:
        if event.event_type in ENDS_OF_TALK:
            break
        agent = event.data["agent"]
        if event.event_type == "agent_message":
            done.add(agent)
        elif agent not in done:
            parts.setdefault(agent, []).append(event.data["content"])
    return [Draft(agent, unmasked("".join(reversed(said)))) for agent, said in parts.items()]


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
    plain = text.replace("\r\n", "\n")  # a browser's form sends lines that end so
    pieces = _FENCED.split(plain)  # prose, language, code, prose, language, code, … prose
    for at in range(0, len(pieces), 3):
        yield from _part(Part(is_code=False, text=pieces[at]))
        for language, code in zip(pieces[at + 1 : at + 2], pieces[at + 2 : at + 3], strict=True):
            yield from _part(Part(is_code=True, text=code, language=language.strip()))


def _part(part: Part) -> Iterator[Part]:
    if trimmed := part.text.strip("\n").rstrip():
        yield replace(part, text=trimmed)
