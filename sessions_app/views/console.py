"""Pieces of a session's console, what was found in it, and where it failed."""

from __future__ import annotations

import re
import threading
import uuid

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from sessions_app.console.pages import Piece, Place, read_after, read_around, read_before, read_tail
from sessions_app.console.search import MAX_NEEDLE, find_lines
from sessions_app.models import Session
from sessions_app.views.access import PageRequest, for_members, get_session

# Looking takes a whole processor, of which the process has one for all its pages and sockets.
_LOOKING = threading.BoundedSemaphore(1)
PATIENCE_SECONDS = 5.0
_PLACE = re.compile(r"(\d{1,18}):(\d{1,18})", re.ASCII)


@require_GET
@for_members
def show_console(request: PageRequest, session_id: uuid.UUID) -> HttpResponse:
    """The lines `before` or `after` a place (seq:number), around a `line` (run:number), or the
    last. 404 when there is no such line."""
    session = get_session(request, session_id)
    asked = next((name for name in ("before", "after", "line") if name in request.GET), None)
    place = parse_place(request.GET[asked]) if asked else (0, 0)
    if place is None:
        return HttpResponse(f"{asked}: two numbers", status=400, content_type="text/plain")
    piece = _piece(session, asked, place)
    if piece is None:
        return HttpResponse("There is no such line.", status=404, content_type="text/plain")
    return render(request, "sessions/_console.html", {"piece": piece, "until": session.last_seq})


def _piece(session: Session, asked: str | None, place: Place) -> Piece | None:
    if asked == "before":
        return read_before(session.pk, place)
    if asked == "after":
        return read_after(session.pk, place, until=session.last_seq)
    if asked == "line":
        return read_around(session.pk, run=place[0], line=place[1], until=session.last_seq)
    return read_tail(session.pk, until=session.last_seq)


def parse_place(text: str) -> Place | None:
    found = _PLACE.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None


@require_GET
@for_members
def search_console(request: PageRequest, session_id: uuid.UUID) -> HttpResponse:
    """The lines with the words of `q`, after a place when the page looks on. One at a time in each
    process: who waits longer than its patience is told to come again (503)."""
    session = get_session(request, session_id)
    needle = request.GET.get("q", "").strip()[:MAX_NEEDLE]
    place = parse_place(request.GET.get("after", "0:0"))
    if not needle or place is None:
        return HttpResponse("q: some words", status=400, content_type="text/plain")
    if not _LOOKING.acquire(timeout=PATIENCE_SECONDS):
        said = "Others are looking just now. Try again in a moment."
        return HttpResponse(
            said, status=503, headers={"Retry-After": "5"}, content_type="text/plain"
        )
    try:
        found = find_lines(session.pk, needle, after=place, until=session.last_seq)
    finally:
        _LOOKING.release()
    context = {"session": session, "needle": needle, "found": found}
    return render(request, "sessions/_found.html", context)
