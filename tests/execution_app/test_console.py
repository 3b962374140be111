"""The console: nothing printed is lost, lines are numbered, bytes that are no text stay visible."""

from __future__ import annotations

import random

import pytest

from execution_app.console import HOLD_SECONDS, MAX_TEXT_BYTES, Console
from sessions_app.event_types import MAX_EVENT_BYTES, Output, encoded_size


def all_of(console: Console, stream: str, *chunks: bytes) -> list[Output]:
    events: list[Output] = []
    for chunk in chunks:
        console.feed(stream, chunk, now=0)  # type: ignore[arg-type]  # a test's literal
        events += console.take(now=0)
    console.close(stream)  # type: ignore[arg-type]  # a test's literal
    return events + console.take(now=0, everything=True)


def text_of(events: list[Output]) -> str:
    return "".join(event.text for event in events)


def test_lines_of_one_flush_are_one_event() -> None:
    console = Console(1)

    events = all_of(console, "stdout", b"a\nb\nc\n")

    assert [(e.line, e.text, e.cont) for e in events] == [(1, "a\nb\nc\n", False)]


def test_half_a_line_waits_for_its_rest_a_moment() -> None:
    console = Console(1)
    console.feed("stdout", b"whole\nhal", now=0)

    assert text_of(console.take(now=0)) == "whole\n"
    assert console.take(now=HOLD_SECONDS / 2) == []
    assert text_of(console.take(now=HOLD_SECONDS * 2)) == "hal"


def test_a_continued_line_keeps_its_number() -> None:
    console = Console(1)
    console.feed("stdout", b"50 %", now=0)
    first = console.take(now=1)
    console.feed("stdout", b" done\nnext\n", now=2)

    second = console.take(now=2)

    assert [(e.line, e.cont) for e in first + second] == [(1, False), (1, True)]


def test_lines_of_the_other_stream_do_not_break_the_numbers() -> None:
    console = Console(1)
    console.feed("stdout", b"begun", now=0)
    events = console.take(now=1)
    console.feed("stderr", b"warning\n", now=2)
    events += console.take(now=2)
    console.feed("stdout", b" ended\nthird\n", now=3)

    events += console.take(now=3)

    assert [(e.stream, e.line, e.text, e.cont) for e in events] == [
        ("stdout", 1, "begun", False),
        ("stderr", 2, "warning\n", False),
        ("stdout", 1, " ended\n", True),
        ("stdout", 3, "third\n", False),
    ]


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"\xff\xfe\n", "\\xff\\xfe\n"),
        (b"a\x00b\n", "a�b\n"),
        ("\ud800".encode("utf-8", "surrogatepass"), "\\xed\\xa0\\x80"),
        ("µK²".encode(), "µK²"),
        (b"\xc2", "\\xc2"),  # half a character at the end
    ],
)
def test_bytes_that_are_no_text_stay_visible(printed: bytes, shown: str) -> None:
    assert text_of(all_of(Console(1), "stdout", printed)) == shown


def test_a_character_cut_by_a_read_is_whole() -> None:
    printed = "αβγ\n".encode()

    events = all_of(Console(1), "stdout", *(printed[i : i + 1] for i in range(len(printed))))

    assert text_of(events) == "αβγ\n"


@pytest.mark.parametrize("character", ["x", "\x01", "€", "😀"])
def test_a_line_of_megabytes_goes_on_over_events_that_fit(character: str) -> None:
    printed = character * 1_000_000 + "\n"

    events = all_of(Console(1), "stdout", printed.encode())

    assert text_of(events) == printed
    assert max(encoded_size(event.stored()) for event in events) < MAX_EVENT_BYTES
    assert {event.line for event in events} == {1}
    assert [event.cont for event in events] == [False] + [True] * (len(events) - 1)
    assert len(events) < 3 * len(printed.encode()) / MAX_TEXT_BYTES + 300


def test_whatever_way_bytes_arrive_the_text_is_the_same() -> None:
    rng = random.Random(7)
    printed = b"".join(
        rng.choice([b"a line\n", b"\n", "été ".encode(), b"\xff", b"half", b"\x00", b"\r50%"])
        for _ in range(2000)
    )
    cuts = sorted(rng.sample(range(len(printed)), 300))
    chunks = [printed[a:b] for a, b in zip([0, *cuts], [*cuts, len(printed)], strict=True)]

    events = all_of(Console(5), "stderr", *chunks)

    assert text_of(events) == printed.decode(errors="backslashreplace").replace("\0", "�")
    line = 5
    for event in events:
        assert event.line == line, "numbers follow from the text alone"
        line += event.text.count("\n")
