"""What a terminal would show of output, in lines and groups; without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from sessions_app.console.ansi import Ink, Pen, painted
from sessions_app.console.rows import ConsoleBuilder, Context, Group, Mark, lines_of
from sessions_app.event_types import EVENT_TYPES
from sessions_app.models import Event

_seqs = count(1)


def event(event_type: str, **data: Any) -> Event:
    stored = EVENT_TYPES[event_type].model_validate(data).stored()
    at = datetime(2026, 11, 22, 12, 30, 5, tzinfo=UTC)
    return Event(seq=next(_seqs), event_type=event_type, data=stored, created_at=at)


def output(text: str, *, line: int = 1, cont: bool = False, stream: str = "stdout") -> Event:
    return event("output", stream=stream, line=line, text=text, cont=cont)


def executed(path: str = "runs/1/b.py", exit_code: int = 0) -> Event:
    ended = {"exit_code": exit_code, "duration_s": 72.4, "ended_by": "exit"}
    return event("code_execution", language="python", path=path, **ended)


def built(*events: Event, midway: bool = False) -> ConsoleBuilder:
    builder = ConsoleBuilder()
    builder.begin_run(1, Context(), midway=midway)
    for one in events:
        builder.add(one)
    return builder


def texts(*events: Event) -> list[str]:
    return [line.text for line in lines_of(built(*events).items)]


def html(*events: Event) -> list[str]:
    return [line.html for line in lines_of(built(*events).items)]


# -- lines ------------------------------------------------------------------------------------
def test_a_line_of_the_console_turns_nothing_around() -> None:
    assert texts(output("a\u202eb\n")) == ["a[U+202E]b"]


def test_output_in_pieces_is_put_together_by_stream() -> None:
    assert texts(
        output("one\ntw", line=1),
        output("warn", line=3, stream="stderr"),
        output("o\nthree\n", line=2, cont=True),
        output("ing\n", line=3, cont=True, stream="stderr"),
    ) == ["one", "two", "warning", "three"]


def test_a_line_without_its_end_is_open() -> None:
    builder = built(output("one\ntwo"), output("err\n", line=3, stream="stderr"))
    assert [line.text for line in builder.open_lines] == ["two"]


def test_a_progress_bar_shows_its_last_state() -> None:
    assert texts(output("10%\r55%\r"), output("100%\n", cont=True)) == ["100%"]


def test_a_line_of_many_megabytes_is_cut() -> None:
    pieces = [output("x" * 30_000, cont=number > 0) for number in range(30)]
    (line,) = lines_of(built(*pieces).items)
    assert len(line.raw) < 4100
    assert line.text.endswith("(the whole log has the rest)")
    assert line.html == line.text


def test_a_line_tells_when_it_was_printed() -> None:
    (line,) = lines_of(built(output("x\n")).items)
    assert line.clock == "12:30:05Z"


# -- colours ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("codes", "classes"),
    [
        ("32", "a2"),
        ("1;31", "a1 ab"),
        ("1;22", ""),
        ("94", "a12"),
        ("31;39", ""),
        ("31;0", ""),
        ("", ""),
        ("38;5;9", "a9"),
        ("38;5;196", "a9"),
        ("38;5;250", "a7"),
        ("38;2;0;200;10", "a2"),
        ("48;5;196", ""),
        ("48;5;1;32", "a2"),
        ("44", ""),
        ("9" * 9000, ""),
    ],
)
def test_colours_are_classes(codes: str, classes: str) -> None:
    assert Pen().changed(codes).classes == classes


def test_a_colour_goes_on_over_lines_and_events() -> None:
    assert html(output("\x1b[32mone\ntwo"), output("\x1b[0m!\n", line=2, cont=True)) == [
        '<span class="a2">one</span>',
        '<span class="a2">two</span>!',
    ]


def test_a_colour_stays_with_its_stream() -> None:
    assert html(output("\x1b[32mone\n"), output("err\n", line=2, stream="stderr"))[1] == "err"


def test_a_colour_that_was_overwritten_still_counts() -> None:
    assert html(output("\x1b[31m10%\r"), output("20%\n", cont=True)) == [
        '<span class="a1">20%</span>'
    ]


def test_a_colour_may_be_cut_in_two_by_events() -> None:
    assert html(output("a\x1b[3"), output("2mb\nc\n", cont=True)) == [
        'a<span class="a2">b</span>',
        '<span class="a2">c</span>',
    ]
    ink = Ink()
    ink.write("\x1b[3")
    ink.write("2m")
    assert ink.pen.classes == "a2"


def test_what_is_no_colour_is_left_out() -> None:
    assert texts(output("\x1b[2Kok \x1b]0;title\x07bell\x07\n")) == ["ok bell"]


def test_text_between_colours_is_text() -> None:
    assert painted("\x1b[31m<img src=x>", Pen()) == '<span class="a1">&lt;img src=x&gt;</span>'
    assert painted("<b>", Pen()) == "&lt;b&gt;"


def test_a_long_coloured_line_is_cut_too() -> None:
    shown = painted("\x1b[31m" + "x" * 3000 + "\x1b[32m" + "y" * 3000, Pen())
    assert shown.count("y") == 1000
    assert shown.endswith("(the whole log has the rest)")


# -- groups -----------------------------------------------------------------------------------
def test_each_execution_is_a_group_with_its_name_and_time() -> None:
    items = built(
        output("one\n"), executed("runs/1/a.py"), output("two\n", line=2), executed(exit_code=1)
    ).items
    assert [(item.title, item.took, item.tone) for item in items if isinstance(item, Group)] == [
        ("a.py", "1:12", "ok"),
        ("b.py", "1:12", "bad"),
    ]


def test_a_group_belongs_to_its_step() -> None:
    begun = event("step_started", index=2, title="Compute", agent="engineer")
    (group,) = built(begun, output("x\n")).items
    assert isinstance(group, Group)
    assert (group.step, group.title, group.key) == ("Step 2", "Compute", begun.seq)


def test_a_new_attempt_never_continues_a_line_of_the_one_before() -> None:
    events = [
        output("half a li"),
        event("run_recovered", attempt=2, reason="worker_lost"),
        output("ne\n", line=1, cont=True),
    ]
    assert texts(*events) == ["half a li", "ne"]
    marks = [item.text for item in built(*events).items if isinstance(item, Mark)]
    assert marks == ["Interrupted: what was under way begins again"]


def test_a_line_that_began_before_what_is_read_says_so() -> None:
    lines = lines_of(built(output("rest\nnext\n", cont=True), midway=True).items)
    assert [line.is_partial for line in lines] == [True, False]
