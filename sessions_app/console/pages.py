"""Pieces of a session's console: its end, what came before a line, what came after, what is around.

Each piece costs what it shows, however long the log is: every query is a range of the index on
(run_id, event_type, seq).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from django.db.models import Max, Min

from execution_app.models import Run
from sessions_app.console.rows import (
    BORDERS,
    ConsoleBuilder,
    Context,
    Group,
    Item,
    Line,
    Mark,
    first_of,
    last_of,
    lines_of,
)
from sessions_app.models import Event, EventQuerySet

TAIL_LINES = 1000
PAGE_LINES = 1000
_READ_AT_ONCE = 100  # events, 32 KB each at most
_MAX_BYTES = 1_000_000  # of text in one piece
_FORWARD = 2000  # events looked through for the end of a line
_PASSED_OVER = 20  # events that only continue a line
_RUNS = 50  # looked through for one piece
LAST = 2**62

Place = tuple[int, int]  # seq of the event with which a line began, number of the line


@dataclass(frozen=True)
class Piece:
    """Lines of the console in order, with what the page needs to go on from them."""

    items: Sequence[Item]
    has_earlier: bool = False
    has_later: bool = False
    end: Context | None = None  # of the tail: where what comes next belongs
    newest_run: int = 1
    pens: dict[str, str] = field(default_factory=dict)
    last_line: int = 0  # of the newest run


@dataclass(frozen=True)
class _Stretch:
    """Output events of one run, and whether it has others beyond them."""

    run: Run
    outputs: Sequence[Event]
    more: bool


def read_tail(session_id: uuid.UUID, *, until: int) -> Piece:
    """The end of the console as of event `until`."""
    runs = _runs(session_id)
    stretches = _back(runs, until=until, lines=TAIL_LINES)
    builder = _built(stretches, until=until)
    for line in builder.open_lines:
        line.open = True
    items = _whole(builder.items)
    more = len(lines_of(items)) > TAIL_LINES or any(stretch.more for stretch in stretches)
    newest = runs[0].number if runs else 1
    last = max((line.number for line in _lines_of_run(items, newest)), default=0)
    shown = last_of(items, TAIL_LINES)
    pens = builder.pens
    return Piece(shown, more, end=builder.context, newest_run=newest, pens=pens, last_line=last)


def read_before(session_id: uuid.UUID, place: Place) -> Piece:
    """The lines before one, whole: the event that ends one of them may come later."""
    piece = _before(session_id, place, PAGE_LINES)
    items = list(piece.items)
    while items and isinstance(items[-1], Mark):
        items.pop()  # whoever has the line has the marks above it
    return Piece(items, piece.has_earlier)


def _before(session_id: uuid.UUID, place: Place, count: int) -> Piece:
    stretches = _back(_runs(session_id, until=place[0]), until=place[0], lines=count)
    builder = _built(_ended(stretches), until=LAST)
    items = _only(builder.items, lambda line: line.place < place)
    items = [item for item in items if isinstance(item, Group) or item.seq < place[0]]
    more = len(lines_of(items)) > count or any(stretch.more for stretch in stretches)
    return Piece(last_of(items, count), more)


def read_after(session_id: uuid.UUID, place: Place, *, until: int) -> Piece:
    """The lines after one, up to those of event `until`."""
    runs = _runs(session_id)[::-1]
    stretches = _forth(runs, after=place[0], until=until)
    builder = _built(stretches, until=until)
    items = _only(builder.items, lambda line: line.place > place)
    items = [item for item in items if isinstance(item, Group) or item.seq > place[0]]
    more = len(lines_of(items)) > PAGE_LINES or any(stretch.more for stretch in stretches)
    return Piece(first_of(items, PAGE_LINES), has_later=more)


def read_around(session_id: uuid.UUID, *, run: int, line: int, until: int) -> Piece | None:
    """Lines before and after a line of a run; None when it has no such line."""
    found = Run.objects.filter(session=session_id, number=run).first()
    seq = _seq_of_line(found, line) if found else None
    if seq is None:
        return None
    before = _before(session_id, (seq, line), PAGE_LINES // 2)
    after = read_after(session_id, (seq, line - 1), until=until)
    return Piece(joined(before.items, after.items), before.has_earlier, after.has_later)


def joined(before: Sequence[Item], after: Sequence[Item]) -> list[Item]:
    """Two pieces that follow each other; a group that goes over their border becomes one."""
    if before and after:
        last, first = before[-1], after[0]
        if isinstance(last, Group) and isinstance(first, Group) and last.key == first.key:
            first.lines = [*last.lines, *first.lines]
            return [*before[:-1], *after]
    return [*before, *after]


# -- which events -----------------------------------------------------------------------------
def _runs(session_id: uuid.UUID, *, until: int = LAST) -> list[Run]:
    """Newest first; of those that had begun at event `until`."""
    runs = Run.objects.filter(session=session_id).order_by("-number")
    event = Event.objects.filter(session=session_id, seq=until).first()
    if event is not None and event.run_id and (last := runs.filter(pk=event.run_id).first()):
        runs = runs.filter(number__lte=last.number)
    return list(runs[:_RUNS])


def outputs_of(run: Run) -> EventQuerySet:
    found: EventQuerySet = Event.objects.filter(run_id=run.pk, event_type="output")
    return found


def _back(runs: Iterable[Run], *, until: int, lines: int) -> list[_Stretch]:
    """The output before, enough for so many lines; oldest run first."""
    found: list[_Stretch] = []
    room, size = lines, _MAX_BYTES
    for run in runs:
        outputs: list[Event] = []
        before = until + 1
        while room >= 0 and size > 0:
            chunk = list(outputs_of(run).filter(seq__lt=before).order_by("-seq")[:_READ_AT_ONCE])
            outputs += chunk
            room -= sum(event.data["text"].count("\n") for event in chunk)
            size -= sum(len(event.data["text"]) for event in chunk)
            if len(chunk) < _READ_AT_ONCE:
                break
            before = chunk[-1].seq
        else:
            found.append(_Stretch(run, outputs[::-1], more=True))
            break
        found.append(_Stretch(run, outputs[::-1], more=False))
    return found[::-1]


def _forth(runs: Iterable[Run], *, after: int, until: int) -> list[_Stretch]:
    """The output from event `after` on, enough for a page; oldest run first."""
    found: list[_Stretch] = []
    room, size = PAGE_LINES, _MAX_BYTES
    for run in runs:
        outputs: list[Event] = []
        since = after
        while room >= 0 and size > 0:
            coming = outputs_of(run).filter(seq__gte=since, seq__lte=until)
            chunk = list(coming.order_by("seq")[:_READ_AT_ONCE])
            outputs += chunk
            room -= sum(event.data["text"].count("\n") for event in chunk)
            size -= sum(len(event.data["text"]) for event in chunk)
            if len(chunk) < _READ_AT_ONCE:
                break
            since = chunk[-1].seq + 1
        else:
            found.append(_Stretch(run, outputs, more=True))
            break
        found.append(_Stretch(run, outputs, more=False))
    return found


def _ended(stretches: Sequence[_Stretch]) -> list[_Stretch]:
    """With what soon follows and goes on in a line: it ends those that are open at the last one."""
    if not stretches or not stretches[-1].outputs:
        return list(stretches)
    last = stretches[-1]
    seq = last.outputs[-1].seq
    coming = outputs_of(last.run).filter(seq__gt=seq, seq__lte=seq + _FORWARD, data__cont=True)
    ends = list(coming.order_by("seq")[:_READ_AT_ONCE])
    return [*stretches[:-1], _Stretch(last.run, [*last.outputs, *ends], last.more)]


def _built(stretches: Iterable[_Stretch], *, until: int) -> ConsoleBuilder:
    builder = ConsoleBuilder()
    for stretch in stretches:
        first = stretch.outputs[0].seq if stretch.more and stretch.outputs else 0
        context = _context(stretch.run, first)
        builder.begin_run(stretch.run.number, context, midway=bool(first))
        for event in _in_order(stretch.outputs, _borders(stretch, since=first, until=until)):
            builder.add(event)
    return builder


def _borders(stretch: _Stretch, *, since: int, until: int) -> list[Event]:
    found = Event.objects.filter(run_id=stretch.run.pk, event_type__in=BORDERS)
    return list(found.filter(seq__gte=since, seq__lte=until).order_by("seq"))


def _context(run: Run, first: int) -> Context:
    """What the group of the first event read is called."""
    if not first:
        return Context()
    earlier = Event.objects.filter(run_id=run.pk, seq__lt=first)
    border = earlier.filter(event_type__in=BORDERS).order_by("-seq").first()
    step = earlier.filter(event_type="step_started").order_by("-seq").first()
    made = ConsoleBuilder()
    for event in _in_order([border] if border else [], [step] if step else []):
        made.add(event)
    return made.context


def _in_order(*parts: Iterable[Event]) -> list[Event]:
    return sorted({event.seq: event for event in chain(*parts)}.values(), key=lambda e: e.seq)


def _only(items: Sequence[Item], wanted: Callable[[Line], bool]) -> list[Item]:
    """Whole lines that are wanted; groups without any are left out."""
    for item in items:
        if isinstance(item, Group):
            item.lines = [line for line in item.lines if wanted(line) and not line.is_partial]
    return [item for item in items if isinstance(item, Mark) or item.lines]


def _whole(items: Sequence[Item]) -> list[Item]:
    """Without lines whose beginning was not read, unless there is nothing else."""
    if all(line.is_partial for line in lines_of(items)):
        return list(items)
    return _only(items, lambda _: True)


def _lines_of_run(items: Sequence[Item], number: int) -> list[Line]:
    groups = [item for item in items if isinstance(item, Group) and item.run == number]
    return lines_of(groups)


def _seq_of_line(run: Run, line: int) -> int | None:
    """The last event that begins no line after this one: found by halving, since lines are numbered
    in the order of their beginning. Events that only continue a line are passed over."""
    ends = outputs_of(run).aggregate(first=Min("seq"), last=Max("seq"))
    low: int | None = ends["first"]
    high: int = ends["last"] or 0
    while low is not None and low < high:
        middle = (low + high + 1) // 2
        begins = _next_that_begins(run, middle, high)
        if begins is not None and begins[1] <= line:
            low = begins[0]
        else:
            high = middle - 1
    return low


def _next_that_begins(run: Run, since: int, until: int) -> tuple[int, int] | None:
    """The seq of the next event that begins a line, and the first line that it begins."""
    coming = outputs_of(run).filter(seq__gte=since, seq__lte=until).order_by("seq")
    for event in coming[:_PASSED_OVER]:
        data = event.data
        if not data["cont"]:
            return event.seq, data["line"]
        if "\n" in data["text"][:-1]:
            return event.seq, data["line"] + 1
    return None
