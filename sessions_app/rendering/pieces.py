"""Events as pieces of the page: the same HTML for everybody who looks, made once.

What depends on who looks is not in here: the page fetches it when the event arrives.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe

from execution_app.models import Run
from sessions_app.models import Event
from sessions_app.rendering.cache import TextCache
from sessions_app.rendering.entries import TALK_TYPES, Levels, make_entries

Slot = Literal["talk", "console", "drafts", "none"]
Op = Literal["append", "drop"]

# what the page needs of an event beside its HTML, or folds together by itself
_META: dict[str, tuple[str, ...]] = {
    "output": ("stream", "line", "text", "cont"),
    "agent_delta": ("agent", "content"),
    "agent_message": ("agent",),
    "run_queued": ("number",),
    "code_execution": ("path", "exit_code", "duration_s", "ended_by"),
    "step_started": ("index", "title", "agent"),
    "step_completed": ("index", "title"),
    "step_failed": ("index", "title"),
    "step_skipped": ("index", "title"),
}
_SLOTS: dict[str, Slot] = {"output": "console", "agent_delta": "drafts"}


@dataclass(frozen=True, slots=True)
class Piece:
    """Where an event goes in the page, how, and as what."""

    slot: Slot
    op: Op
    html: str
    meta: Mapping[str, Any]


_CACHE = TextCache()


def render_pieces(events: Sequence[Event]) -> list[Piece]:
    """One for each event, in order. May ask the database once."""
    kept = [_CACHE.get(_key(event)) if _is_talk(event) else None for event in events]
    new = [event for event, html in zip(events, kept, strict=True) if html is None]
    levels = _levels_of(new)
    return [_render(event, html, levels) for event, html in zip(events, kept, strict=True)]


def talk_html(events: Sequence[Event]) -> SafeString:
    """The conversation of these events, for a page that is rendered whole."""
    return mark_safe("".join(piece.html for piece in render_pieces(events)))  # noqa: S308  made of templates


def _is_talk(event: Event) -> bool:
    return event.event_type in TALK_TYPES


def _key(event: Event) -> Hashable:
    """What the event is. The moment stands for the epoch: after a backup was restored, another
    event may have this number, but it was not written in the same microsecond."""
    return (event.session_id, event.seq, event.created_at, event.event_type)


def _levels_of(events: Sequence[Event]) -> Levels:
    """The sandbox level of each run that executed code in these events."""
    executed = [event.run_id for event in events if event.event_type == "code_execution"]
    run_ids = {run_id for run_id in executed if run_id is not None}
    if not run_ids:
        return {}
    return dict(Run.objects.filter(pk__in=run_ids).values_list("pk", "sandbox_level"))


def _render(event: Event, kept: str | None, levels: Levels) -> Piece:
    meta = {name: event.data.get(name) for name in _META.get(event.event_type, ())}
    if _is_talk(event):
        html = kept if kept is not None else _entry_html(event, levels)
        return Piece("talk", "append", html, meta)
    slot = _SLOTS.get(event.event_type, "none")
    return Piece(slot, "drop" if slot == "none" else "append", "", meta)


def _entry_html(event: Event, levels: Levels) -> str:
    (entry,) = make_entries([event], levels)
    html = render_to_string("sessions/_entry.html", {"entry": entry}).strip()
    _CACHE.put(_key(event), html)
    return html
