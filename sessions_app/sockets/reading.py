"""Reading a session's log: for a feed, or for one client that is behind. Runs in a thread."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from django.db.models import Q

from sessions_app.models import Event
from sessions_app.sockets.formats import Format, encode_events
from sessions_app.sockets.frames import EVENTS_OVERHEAD, MAX_EVENTS, MAX_EVENTS_BYTES
from sessions_app.sockets.rights import State, find_states
from sessions_app.sockets.window import Room

WHOLE_FRAME = Room(MAX_EVENTS, MAX_EVENTS_BYTES, at_least_one=True)
LITTLE = 20  # events that many sessions may have at once in one query: 32 KB each at most


@dataclass(frozen=True, slots=True)
class Reading:
    """What the log has after a cursor: a contiguous piece of it, encoded in each format asked."""

    state: State
    count: int
    pieces: Mapping[Format, Sequence[str]]
    was_cut: bool  # by size: the next piece needs as few rows


@dataclass(frozen=True, slots=True)
class Question:
    """What follows a cursor, for these users, in these formats: at most so many events and bytes."""

    session_id: uuid.UUID
    for_users: Set[int]
    after: int
    formats: Set[Format]
    room: Room
    rows: int


def read_log(question: Question) -> Reading | None:
    """None when the session is there for none of them."""
    return read_logs([question])[0]


def read_logs(questions: Sequence[Question]) -> list[Reading | None]:
    """Of different sessions.

    Who may see a session is asked before what is in it, each time: nothing is read for, or handed
    to, a user who lost the right before these events were committed.
    """
    states = find_states({each.session_id: each.for_users for each in questions})
    found = _find_events(questions, states)
    return [
        _read(each, states.get(each.session_id), found.get(each.session_id, ()))
        for each in questions
    ]


def _read(question: Question, state: State | None, found: Iterable[Event]) -> Reading | None:
    if state is None:
        return None
    events = contiguous(found, after=question.after)
    if not events:
        return Reading(state, 0, {}, was_cut=False)
    pieces = {each: encode_events(events, each) for each in question.formats}
    count = min(fit(each, question.room) for each in pieces.values())
    state = state.with_head(max(state.head, question.after + count))
    return Reading(state, count, pieces, was_cut=count < len(events))


def _find_events(
    questions: Sequence[Question], states: Mapping[uuid.UUID, State]
) -> dict[uuid.UUID, list[Event]]:
    """One query for all sessions that have moved a little, and one for each that moved far."""
    found: dict[uuid.UUID, list[Event]] = {}
    little = Q()
    for each in questions:
        state = states.get(each.session_id)
        moved = state.head - each.after if state and each.formats else 0
        if 0 < moved <= min(LITTLE, each.rows, each.room.events):
            little |= Q(session=each.session_id, seq__gt=each.after, seq__lte=each.after + moved)
        elif moved > 0:
            log = Event.objects.filter(session=each.session_id).after(each.after)
            found[each.session_id] = list(log[: min(each.rows, each.room.events)])
    if little:
        for event in Event.objects.filter(little).order_by("session_id", "seq"):
            found.setdefault(event.session_id, []).append(event)
    return found


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
