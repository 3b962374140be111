"""Sessions and their events over REST. Each operation parses, calls one service and answers."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.db.models import Q
from django.http import HttpResponse
from ninja import Query, Router
from ninja.responses import Status

from execution_app.services import delete_session
from sessions_app.access import ApiRequest, VisibleSession
from sessions_app.models import Event, Session, SessionQuerySet
from sessions_app.modes import MODES
from sessions_app.schemas import (
    EventFilters,
    EventPage,
    FieldsInvalid,
    ModeInfo,
    ModeList,
    NewSession,
    Problem,
    SessionDetail,
    SessionFilters,
    SessionList,
    SessionSummary,
)
from sessions_app.serialization import event_json
from sessions_app.services import create_session

COUNTED = 10_000  # a list's total is exact up to here
TALK_SHOWN = 100
PAGE_BYTES = 4 * 2**20
READ_AT_ONCE = 100  # events: 3.2 MB at most
TALK = ("user_message", "agent_message")
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

router = Router(tags=["sessions"])


@router.post("", response={201: SessionSummary, 422: Problem})
def create(request: ApiRequest, body: NewSession) -> Status[SessionSummary]:
    """A new session; start a run in it to make something happen."""
    session = create_session(owner=request.user, mode=body.mode, name=body.name, config=body.config)
    return Status(201, SessionSummary.of(session))


@router.get("", response={200: SessionList, 422: Problem})
def list_sessions(request: ApiRequest, filters: Query[SessionFilters]) -> SessionList:
    """The sessions you may see, newest update first. Go on with `cursor` or with `offset`."""
    found = _filtered(Session.objects.visible_to(request.user), filters)
    page = list(_page(found, filters))
    more = len(page) > filters.limit
    shown = page[: filters.limit]
    count = found.order_by()[: COUNTED + 1].count()
    return SessionList(
        sessions=[SessionSummary.of(session) for session in shown],
        total=min(count, COUNTED),
        total_at_least=count > COUNTED,
        next_cursor=_cursor_after(shown[-1]) if more else None,
    )


@router.get("/modes/list", response=ModeList)
def list_modes(request: ApiRequest) -> ModeList:
    """What a session can be for; each example can be started as it stands."""
    return ModeList(modes=[ModeInfo.of(mode) for mode in MODES.values()], total=len(MODES))


@router.get("/{session}", response={200: SessionDetail, 404: Problem})
def show(request: ApiRequest, session: VisibleSession) -> SessionDetail:
    """One session with the last hundred messages of its conversation."""
    talk = Event.objects.filter(session=session, event_type__in=TALK).order_by("-seq")[:TALK_SHOWN]
    return SessionDetail.with_talk(session, list(reversed(talk)))


@router.delete("/{session}", response={204: None, 404: Problem})
def delete(request: ApiRequest, session: VisibleSession) -> Status[None]:
    """Stops what runs in it and takes it out of everybody's sight."""
    delete_session(session, by=request.user)
    return Status(204, None)


@router.get("/{session}/events", response={200: EventPage, 404: Problem, 422: Problem})
def list_events(
    request: ApiRequest, session: VisibleSession, filters: Query[EventFilters]
) -> HttpResponse:
    """The log in order, as on the socket; at most 4 MB: where `more`, go on after the last."""
    page = _EventPage(filters)
    for event in _events_after(session, filters):
        if not page.take(event):
            break
    head = Session.objects.values_list("last_seq", flat=True).get(pk=session.pk)
    return HttpResponse(page.json(head, session.epoch), content_type="application/json")


# -- the list ---------------------------------------------------------------------------------
def _filtered(found: SessionQuerySet, filters: SessionFilters) -> SessionQuerySet:
    if filters.mode is not None:
        found = found.filter(mode=filters.mode)
    if filters.status is not None:
        found = found.filter(status=filters.status)
    if filters.q:
        found = found.filter(name__icontains=filters.q)
    return found


def _page(found: SessionQuerySet, filters: SessionFilters) -> SessionQuerySet:
    """One more than the limit, so that we know whether there are more."""
    ordered = found.select_related("sessionstate").order_by("-updated_at", "id")
    if filters.cursor is not None:
        moment, last = _read_cursor(filters.cursor)
        later = Q(updated_at__lt=moment) | Q(updated_at=moment, id__gt=last)
        ordered = ordered.filter(later)
    return ordered[filters.offset : filters.offset + filters.limit + 1]


def _cursor_after(session: Session) -> str:
    text = f"{(session.updated_at - _EPOCH) // _MICROSECOND} {session.pk.hex}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, uuid.UUID]:
    try:
        moment, last = base64.urlsafe_b64decode(cursor).decode().split(" ")
        return _EPOCH + int(moment) * _MICROSECOND, uuid.UUID(hex=last)
    except (ValueError, OverflowError) as error:
        raise FieldsInvalid({"cursor": "no cursor of this list: use next_cursor"}) from error


# -- the events -------------------------------------------------------------------------------
class _EventPage:
    """Events as JSON up to a number and a size; the first always fits."""

    def __init__(self, filters: EventFilters) -> None:
        self._limit = filters.limit
        self._events: list[str] = []
        self._bytes = 0
        self._more = False

    def take(self, event: Event) -> bool:
        """False when the page is full; the event then belongs to the next."""
        text = json.dumps(event_json(event), ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode()) + 1
        if self._events and (
            len(self._events) == self._limit or self._bytes + size > PAGE_BYTES - 200
        ):
            self._more = True
            return False
        self._events.append(text)
        self._bytes += size
        return True

    def json(self, head: int, epoch: str) -> str:
        rest = json.dumps({"head": head, "epoch": epoch, "more": self._more})
        return f'{{"events":[{",".join(self._events)}],{rest[1:]}'


def _events_after(session: Session, filters: EventFilters) -> Iterator[Event]:
    """All that match, read a few at a time: nobody knows how big they are."""
    found = Event.objects.filter(session=session)
    if filters.event_type is not None:
        found = found.filter(event_type=filters.event_type)
    cursor = filters.after
    while events := list(found.after(cursor)[:READ_AT_ONCE]):
        yield from events
        cursor = events[-1].seq
