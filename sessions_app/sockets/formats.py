"""The two formats of an `events` frame: the data of each event, or a piece of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from sessions_app.models import Event
from sessions_app.rendering.pieces import Piece, render_pieces
from sessions_app.serialization import event_json
from sessions_app.sockets.frames import encode_event

Format = Literal["json", "html"]


def encode_events(events: Sequence[Event], fmt: Format) -> list[str]:
    """One JSON text for each event, in order. For html it may ask the database."""
    return _ENCODERS[fmt](events)


def _encode_json(events: Sequence[Event]) -> list[str]:
    return [encode_event(event_json(event)) for event in events]


def _encode_html(events: Sequence[Event]) -> list[str]:
    pieces = render_pieces(events)
    return [encode_event(html_json(*both)) for both in zip(events, pieces, strict=True)]


def html_json(event: Event, piece: Piece) -> dict[str, Any]:
    """What of an event has no place in its piece is not sent: the page could not show it."""
    shown = event_json(event)
    del shown["data"]
    return shown | {
        "slot": piece.slot,
        "op": piece.op,
        "html": piece.html,
        "meta": dict(piece.meta),
    }


_ENCODERS: dict[Format, Callable[[Sequence[Event]], list[str]]] = {
    "json": _encode_json,
    "html": _encode_html,
}
