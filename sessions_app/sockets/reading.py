"""Reading a session's log for one client. Runs in a thread."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import User

from sessions_app.models import Event, Session
from sessions_app.sockets.formats import Format, encode_events
from sessions_app.sockets.frames import EVENTS_OVERHEAD
from sessions_app.sockets.rights import SessionGone
from sessions_app.sockets.window import Room


@dataclass(frozen=True, slots=True)
class Reading:
    """What the log has after a cursor: a contiguous piece of it, encoded."""

    epoch: str
    head: int
    events: list[str]
    was_cut: bool  # by size: the next piece needs as few rows


def read_log(
    user: User, session_id: uuid.UUID, *, after: int, room: Room, rows: int, fmt: Format
) -> Reading:
    """Raises SessionGone: who may not see the session learns no more than that."""
    visible = Session.objects.visible_to(user).filter(pk=session_id)
    state = visible.values_list("epoch", "last_seq").first()
    if state is None:
        raise SessionGone
    epoch, head = state
    if head <= after:
        return Reading(epoch, head, [], was_cut=False)
    rows_read = Event.objects.filter(session=session_id).after(after)[: min(rows, room.events)]
    events = contiguous(rows_read, after=after)
    pieces = encode_events(events, fmt)
    fitting = fit(pieces, room)
    return Reading(epoch, max(head, after + fitting), pieces[:fitting], fitting < len(pieces))


def contiguous(events: Iterable[Event], *, after: int) -> list[Event]:
    """What follows `after` without a gap: a seq that is not there may be about to be committed."""
    found: list[Event] = []
    for event in events:
        if event.seq != after + len(found) + 1:
            break
        found.append(event)
    return found


def fit(pieces: Sequence[str], room: Room) -> int:
    """How many of these, from the first on, a frame may hold."""
    size = EVENTS_OVERHEAD
    for number, piece in enumerate(pieces):
        size += len(piece) + 1
        if size > room.bytes and (number or not room.at_least_one):
            return number
    return len(pieces)
