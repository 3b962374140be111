"""Reading a session's log for one client. Runs in a thread."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.auth.models import User

from sessions_app.models import Event, Session
from sessions_app.serialization import event_json
from sessions_app.sockets.frames import EVENTS_OVERHEAD, encode_event
from sessions_app.sockets.rights import SessionGone
from sessions_app.sockets.window import Room


@dataclass(frozen=True, slots=True)
class Reading:
    """What the log has after a cursor: a contiguous piece of it, encoded."""

    epoch: str
    head: int
    events: list[str]
    was_cut: bool  # by size: the next piece needs as few rows


def read_log(user: User, session_id: uuid.UUID, *, after: int, room: Room, rows: int) -> Reading:
    """Raises SessionGone: who may not see the session learns no more than that."""
    visible = Session.objects.visible_to(user).filter(pk=session_id)
    state = visible.values_list("epoch", "last_seq").first()
    if state is None:
        raise SessionGone
    epoch, head = state
    if head <= after:
        return Reading(epoch, head, [], was_cut=False)
    events = Event.objects.filter(session=session_id).after(after)[: min(rows, room.events)]
    pieces, was_cut = pack(events, after=after, room=room)
    return Reading(epoch, max(head, after + len(pieces)), pieces, was_cut)


def pack(events: Iterable[Event], *, after: int, room: Room) -> tuple[list[str], bool]:
    """The events that follow `after` without a gap, as many as fit; whether size cut them."""
    pieces: list[str] = []
    size = EVENTS_OVERHEAD
    for event in events:
        if event.seq != after + len(pieces) + 1:
            break  # never step over a seq: it may be about to be committed
        piece = encode_event(event_json(event))
        size += len(piece) + 1
        if size > room.bytes and (pieces or not room.at_least_one):
            return pieces, True
        pieces.append(piece)
    return pieces, False
