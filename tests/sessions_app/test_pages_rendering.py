"""Events as people read them, without a database or a browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sessions_app.event_types import EVENT_TYPES
from sessions_app.models import Event
from sessions_app.rendering import (
    CONSOLE_LINES,
    TALK_TYPES,
    ConsoleTail,
    Entry,
    Line,
    ago,
    clock,
    make_entries,
    read_console_tail,
)


def event(event_type: str, **data: Any) -> Event:
    stored = EVENT_TYPES[event_type].model_validate(data).stored()
    return Event(seq=1, event_type=event_type, data=stored, created_at=datetime.now(UTC))


def output(text: str, *, line: int = 1, cont: bool = False, stream: str = "stdout") -> Event:
    return event("output", stream=stream, line=line, text=text, cont=cont)


def entry(event_type: str, **data: Any) -> Entry:
    (made,) = make_entries([event(event_type, **data)])
    return made


def console(*events: Event) -> ConsoleTail:
    return read_console_tail(reversed(events))


def texts(tail: ConsoleTail) -> list[str]:
    return [row.text for row in tail.rows]


def test_every_type_that_is_talk_is_one_of_the_vocabulary() -> None:
    assert set(EVENT_TYPES) >= TALK_TYPES


def test_a_message_is_split_into_prose_and_code() -> None:
    made = entry("user_message", content="Draw this:\n\n```python\nprint(1)\n```\nThank you.\n")
    assert [(part.is_code, part.text) for part in made.parts] == [
        (False, "Draw this:"),
        (True, "print(1)"),
        (False, "Thank you."),
    ]


def test_a_fence_that_is_never_closed_is_code_to_the_end() -> None:
    made = entry("user_message", content="```python\nprint(1)\n\nprint(2)")
    assert [(part.is_code, part.text) for part in made.parts] == [(True, "print(1)\n\nprint(2)")]


def test_a_failure_says_what_to_do() -> None:
    made = entry("run_failed", error_type="code_failed", message="It broke.", suggestion="Mend it.")
    assert (made.tone, made.title) == ("bad", "Failed: code_failed")
    assert made.text == "It broke.\nMend it."


@pytest.mark.parametrize(
    ("data", "tone", "detail"),
    [
        ({"exit_code": 0, "ended_by": "exit"}, "ok", "2.5 s"),
        ({"exit_code": 3, "ended_by": "exit"}, "bad", "2.5 s · exit code 3"),
        ({"exit_code": None, "ended_by": "time_limit"}, "bad", "2.5 s · time limit"),
    ],
)
def test_executed_code_tells_how_it_ended(data: dict[str, Any], tone: str, detail: str) -> None:
    made = entry("code_execution", language="python", path="runs/1/1.py", duration_s=2.5, **data)
    assert (made.tone, made.detail) == (tone, detail)


def test_output_in_pieces_is_put_together_by_stream() -> None:
    tail = console(
        output("one\ntw", line=1),
        output("warn", line=3, stream="stderr"),
        output("o\nthree\n", line=2, cont=True),
        output("ing\n", line=3, cont=True, stream="stderr"),
    )
    assert texts(tail) == ["one", "two", "warning", "three"]


def test_the_last_line_without_its_end_is_marked_open() -> None:
    tail = console(output("one\ntwo"), output("err\n", line=3, stream="stderr"))
    lines = [row for row in tail.rows if isinstance(row, Line)]
    assert [(line.text, line.open) for line in lines] == [
        ("one", False),
        ("two", True),
        ("err", False),
    ]


def test_a_new_attempt_never_continues_a_line_of_the_one_before() -> None:
    tail = console(
        output("half a li"),
        event("run_recovered", attempt=2, reason="worker_lost"),
        output("ne\n", line=1, cont=True),
    )
    assert texts(tail) == ["half a li", "Interrupted: the code starts again", "ne"]


def test_a_progress_bar_shows_its_last_state() -> None:
    assert texts(console(output("10%\r55%\r"), output("100%\n", cont=True))) == ["100%"]


def test_colours_and_control_characters_are_left_out() -> None:
    assert texts(console(output("\x1b[32mok\x1b[0m \x1b]0;title\x07bell\x07\n"))) == ["ok bell"]


def test_a_line_of_many_megabytes_is_cut() -> None:
    pieces = [output("x" * 30_000, cont=number > 0) for number in range(30)]
    (shown,) = texts(console(*pieces))
    assert len(shown) < 4100
    assert shown.endswith("(the whole log has the rest)")


def test_only_the_tail_of_a_long_console_is_read() -> None:
    read: list[int] = []

    def newest_first() -> Any:
        for line in range(100_000, 0, -10):
            read.append(line)
            yield output("".join(f"{line + n}\n" for n in range(10)), line=line)

    tail = read_console_tail(newest_first())
    assert len(tail.rows) == CONSOLE_LINES
    assert tail.rows[-1].text == str(tail.last_line) == "100009"
    assert len(read) == CONSOLE_LINES // 10
    assert [len(block) for block in tail.blocks] == [200] * 5


def test_times_are_said_in_words() -> None:
    assert [clock(s) for s in (-3, 59.9, 75, 3675)] == ["0:00", "0:59", "1:15", "1:01:15"]
    assert [ago(s) for s in (3, 61, 7300, 200_000)] == [
        "just now",
        "1 min ago",
        "2 h ago",
        "2 d ago",
    ]
