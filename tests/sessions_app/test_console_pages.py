"""Pieces of a long console: its end, what came before, around and after; search and failures."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from execution_app.models import Run
from execution_app.services import start_run
from sessions_app.console.failures import failures_of
from sessions_app.console.pages import (
    PAGE_LINES,
    TAIL_LINES,
    Piece,
    read_after,
    read_around,
    read_before,
    read_tail,
)
from sessions_app.console.rows import Group, Line, Mark, lines_of
from sessions_app.console.search import MAX_HITS, find_lines
from sessions_app.event_types import CodeExecution, EventData, Output, StepStarted
from sessions_app.models import Session
from sessions_app.services import append_events, create_session
from sessions_app.views import console

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def session(alice: User) -> Session:
    return create_session(owner=alice, mode="one-shot", name="long")


@pytest.fixture
def run(session: Session, alice: User) -> Run:
    return start_run(session=session, task="x", by=alice)


def tell(run: Run, *events: EventData) -> None:
    append_events(run.session_id, list(events), run_id=run.pk)


def printed(first: int, last: int, *, size: int = 10, **more: Any) -> list[EventData]:
    """Lines "line <n>", so many an event."""
    return [
        Output(
            stream=more.get("stream", "stdout"),
            line=at,
            text="".join(f"line {n}\n" for n in range(at, min(at + size, last + 1))),
        )
        for at in range(first, last + 1, size)
    ]


def executed(path: str = "runs/1/b.py", exit_code: int = 0) -> CodeExecution:
    return CodeExecution(
        language="python", path=path, exit_code=exit_code, duration_s=2.0, ended_by="exit"
    )


def head(session: Session) -> int:
    session.refresh_from_db()
    return session.last_seq


def numbers(piece: Piece) -> list[int]:
    return [line.number for line in lines_of(piece.items)]


def first_place(piece: Piece) -> tuple[int, int]:
    return lines_of(piece.items)[0].place


def test_the_tail_and_what_came_before_are_the_whole_console(session: Session, run: Run) -> None:
    dice = random.Random(3)
    at = 1
    while at < 4321:
        size = dice.choice([1, 7, 130, 900])
        tell(run, *printed(at, min(at + size - 1, 4321), size=size))
        at += size
    piece = read_tail(session.pk, until=head(session))
    shown = numbers(piece)
    assert len(shown) == TAIL_LINES
    while piece.has_earlier:
        piece = read_before(session.pk, first_place(piece))
        assert len(numbers(piece)) <= PAGE_LINES
        shown = numbers(piece) + shown
    assert shown == list(range(1, 4322))


def test_a_line_that_ends_after_the_border_comes_whole(session: Session, run: Run) -> None:
    tell(run, *printed(1, 10), Output(stream="stderr", line=11, text="begun "))
    tell(run, *printed(12, 1020), Output(stream="stderr", line=11, text="and ended\n", cont=True))
    tail = read_tail(session.pk, until=head(session))
    assert 11 not in numbers(tail)
    earlier = lines_of(read_before(session.pk, first_place(tail)).items)
    assert [line.text for line in earlier if line.number == 11] == ["begun and ended"]


def test_a_group_that_began_long_ago_keeps_its_heading(session: Session, run: Run) -> None:
    tell(run, StepStarted(index=4, title="Scan"), *printed(1, 3000))
    tail = read_tail(session.pk, until=head(session))
    (group,) = tail.items
    (before,) = read_before(session.pk, first_place(tail)).items
    assert isinstance(group, Group)
    assert isinstance(before, Group)
    assert (group.step, group.title) == ("Step 4", "Scan")
    assert group.key == before.key


def test_runs_follow_each_other_with_a_mark(session: Session, run: Run, alice: User) -> None:
    tell(run, *printed(1, 700), executed())
    Run.objects.filter(pk=run.pk).update(status="completed", finished_at="2026-01-01T00:00Z")
    second = start_run(session=session, task="y", by=alice)
    tell(second, *printed(1, 700))
    tail = read_tail(session.pk, until=head(session))
    assert [item.text for item in tail.items if isinstance(item, Mark)] == ["Run 2"]
    earlier = read_before(session.pk, first_place(tail))
    assert numbers(earlier) + numbers(tail) == [*range(1, 701), *range(1, 701)]
    assert earlier.has_earlier is False
    assert not [item for item in earlier.items if isinstance(item, Mark)]


def test_any_line_can_be_looked_at_with_what_is_around_it(session: Session, run: Run) -> None:
    tell(run, *printed(1, 5000, size=40))
    for wanted in (1, 2, 40, 41, 2500, 4999, 5000):
        piece = read_around(session.pk, run=1, line=wanted, until=head(session))
        assert piece is not None
        shown = numbers(piece)
        assert wanted in shown
        assert shown == list(range(shown[0], shown[-1] + 1))
        assert shown[0] <= max(1, wanted - 400)
        assert shown[-1] >= min(5000, wanted + 400)
    assert read_around(session.pk, run=2, line=1, until=head(session)) is None


def test_a_line_is_found_in_text_that_was_cut_anywhere(session: Session, run: Run) -> None:
    """A burst comes in pieces of many KB: each goes on in the middle of a line."""
    text = "".join(f"line {n}\n" for n in range(1, 6001))
    line = 1
    for at in range(0, len(text), 3333):
        piece = text[at : at + 3333]
        tell(run, Output(stream="stdout", line=line, text=piece, cont=at > 0))
        line += piece.count("\n")
    for wanted in (1, 2999, 6000):
        piece_around = read_around(session.pk, run=1, line=wanted, until=head(session))
        assert piece_around is not None
        shown = {line.number: line.text for line in lines_of(piece_around.items)}
        assert shown[wanted] == f"line {wanted}"


def test_what_comes_after_a_line_goes_on_to_the_end(session: Session, run: Run) -> None:
    tell(run, *printed(1, 3000, size=70))
    piece = read_around(session.pk, run=1, line=50, until=head(session))
    assert piece is not None
    shown = numbers(piece)
    while piece.has_later:
        last: Line = lines_of(piece.items)[-1]
        piece = read_after(session.pk, last.place, until=head(session))
        shown += numbers(piece)
    assert shown == list(range(1, 3001))


def test_the_tail_costs_the_same_however_long_the_console_is(
    session: Session, run: Run, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    tell(run, *printed(1, 30_000, size=5))
    until = head(session)
    with django_assert_max_num_queries(12):
        assert numbers(read_tail(session.pk, until=until))[-1] == 30_000


# -- search -----------------------------------------------------------------------------------
def test_words_are_found_whatever_their_case_and_colour(session: Session, run: Run) -> None:
    tell(run, *printed(1, 3000))
    split = Output(stream="stdout", line=3001, text="the \x1b[31mNEE")
    tell(run, split, Output(stream="stdout", line=3001, text="DLE\x1b[0m is here\n", cont=True))
    tell(run, *printed(3002, 3010))
    found = find_lines(session.pk, "Needle")
    (hit,) = found.hits
    assert (hit.number, hit.before, hit.found, hit.after) == (3001, "the ", "NEEDLE", " is here")
    assert (hit.anchor, hit.above, hit.below) == ("L3001", "line 3000", "line 3002")
    assert found.next is None


def test_every_hit_has_its_neighbours(session: Session, run: Run) -> None:
    tell(run, *printed(1, 450, size=1))
    found = find_lines(session.pk, "line")
    more = find_lines(session.pk, "line", after=found.next) if found.next else found
    for hit in [*found.hits, *more.hits]:
        assert hit.above == (f"line {hit.number - 1}" if hit.number > 1 else "")
        assert hit.below == f"line {hit.number + 1}"


def test_many_hits_come_in_pages(session: Session, run: Run) -> None:
    tell(run, *printed(1, 1000, size=90))
    found = find_lines(session.pk, "line")
    shown = [hit.number for hit in found.hits]
    assert len(shown) == MAX_HITS
    while found.next:
        found = find_lines(session.pk, "line", after=found.next)
        shown += [hit.number for hit in found.hits]
    assert shown == list(range(1, 1001))


def test_a_search_that_takes_long_stops_and_can_go_on(session: Session, run: Run) -> None:
    tell(run, *printed(1, 5000, size=2))
    found = find_lines(session.pk, "line 4999", seconds=0)
    assert found.next is not None
    shown = []
    while found.next:
        found = find_lines(session.pk, "line 4999", after=found.next, seconds=0)
        shown += [hit.number for hit in found.hits]
    assert shown == [4999]


# -- failures ---------------------------------------------------------------------------------
def test_a_failure_names_the_last_words_of_its_execution(session: Session, run: Run) -> None:
    trace = Output(stream="stderr", line=11, text="Traceback\n  x\n\x1b[1mValueError\x1b[0m: no\n")
    tell(run, *printed(1, 10), executed())
    tell(run, trace, executed("runs/1/bad.py", 1), executed("runs/1/mute.py", 2))
    first, second = failures_of(session.pk)
    assert (first.path, first.reason, first.anchor) == ("bad.py", "ValueError: no", "L13")
    assert (second.path, second.anchor) == ("mute.py", "")


# -- over HTTP --------------------------------------------------------------------------------
def test_a_stranger_sees_no_line_and_finds_none(client: Client, session: Session, run: Run) -> None:
    tell(run, *printed(1, 10))
    client.force_login(User.objects.create_user("charlie"))
    for name, query in (("console", {}), ("search", {"q": "line"})):
        answer = client.get(reverse(f"sessions:{name}", args=[session.pk]), query)
        assert answer.status_code == 404


def test_searches_do_not_crowd_out_the_rest_of_the_process(
    client: Client, alice: User, session: Session, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(run, *printed(1, 10))
    client.force_login(alice)
    where = reverse("sessions:search", args=[session.pk])
    monkeypatch.setattr(console, "PATIENCE_SECONDS", 0.05)
    with console._LOOKING:  # somebody else is looking
        refused = client.get(where, {"q": "line"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    for _ in range(2):  # and whoever looked lets the next one look
        assert client.get(where, {"q": "line"}).status_code == 200


def test_pieces_are_fragments(client: Client, alice: User, session: Session, run: Run) -> None:
    tell(run, *printed(1, 20), Output(stream="stdout", line=21, text="<i>not markup</i>\n"))
    client.force_login(alice)
    where = reverse("sessions:console", args=[session.pk])
    shown = client.get(where, {"line": "1:21"}).text
    assert "&lt;i&gt;not markup" in shown
    assert '<div class="ln stdout" data-n="21"' in shown
    assert client.get(where, {"line": "7:1"}).status_code == 404
    assert client.get(where, {"before": "x"}).status_code == 400
    found = client.get(reverse("sessions:search", args=[session.pk]), {"q": "<I>"}).text
    assert "<mark>&lt;i&gt;</mark>" in found
