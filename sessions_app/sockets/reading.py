"""Reading a session's log: for a feed, or for one client that is behind. Runs in a thread."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from sessions_app.models import Event
from sessions_app.sockets.formats import Format, encode_events
from sessions_app.sockets.frames import EVENTS_OVERHEAD, MAX_EVENTS, MAX_EVENTS_BYTES
from sessions_app.sockets.rights import SessionGone, State, find_states
from sessions_app.sockets.window import Room

WHOLE_FRAME = Room(MAX_EVENTS, MAX_EVENTS_BYTES, at_least_one=True)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the log has after a cursor: a contiguous piece of it, encoded in each format asked."""

    state: State
    count: int
    pieces: Mapping[Format, Sequence[str]]
    was_cut: bool  # by size: the next piece needs as few rows


def read_log(
    session_id: uuid.UUID,
    *,
    for_users: Set[int],
    after: int,
    formats: Set[Format],
    room: Room,
    rows: int,
) -> Reading:
    """Raises SessionGone when it is there for none of them.

    Who may see it is asked before what is in it, each time: nothing is read for, or handed to,
    a user who lost the right before these events were committed.
    """
    state = find_states({session_id: for_users}).get(session_id)
    if state is None:
        raise SessionGone
    if state.head <= after or not formats:
        return Reading(state, 0, {}, was_cut=False)
    found = Event.objects.filter(session=session_id).after(after)[: min(rows, room.events)]
    events = contiguous(found, after=after)
    pieces = {each: encode_events(events, each) for each in formats}
    count = min(fit(each, room) for each in pieces.values())
    state = state.with_head(max(state.head, after + count))
    return Reading(state, count, pieces, was_cut=count < len(events))


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
        if number >= room.events or (size > room.bytes and (number or not room.at_least_one)):
            return number
    return len(pieces)


def size_of(pieces: Sequence[str]) -> int:
    """Of a frame that holds all of them, at most."""
    return EVENTS_OVERHEAD + sum(len(piece) + 1 for piece in pieces)
