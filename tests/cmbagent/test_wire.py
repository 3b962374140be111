"""JSON lines between supervisor and engine."""

from __future__ import annotations

import json

import pytest

from cmbagent.wire import Lines, LineTooLong, NotAMessage, decode, encode


def test_a_message_comes_back_as_it_was() -> None:
    message = {"t": "event", "data": {"text": "line\nbreak, µK², \ud800", "n": 1.5}}
    (line,) = Lines().feed(encode(message))
    assert decode(line) == message


def test_a_message_is_one_line() -> None:
    assert encode({"t": "a\nb\u2028c"}).count(b"\n") == 1


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode({"t": float("nan")})


def test_lines_come_whole_however_the_bytes_are_cut() -> None:
    sent = [{"t": "event", "n": n, "text": "x" * n} for n in range(50)]
    data = b"".join(encode(message) for message in sent)
    for size in (1, 7, 64, len(data)):
        lines = Lines()
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        received = [json.loads(line) for piece in pieces for line in lines.feed(piece)]
        assert received == sent


def test_a_partial_line_waits() -> None:
    lines = Lines()
    assert lines.feed(b'{"t":') == []
    assert lines.feed(b'"x"}\n{') == [b'{"t":"x"}']


def test_a_line_over_the_bound_is_an_error_before_it_ends() -> None:
    lines = Lines(max_bytes=100)
    lines.feed(b"x" * 100)
    with pytest.raises(LineTooLong):
        lines.feed(b"x")


def test_many_lines_pass_together_though_their_sum_is_over_the_bound() -> None:
    assert len(Lines(max_bytes=10).feed(b"12345\n" * 100)) == 100


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b'"text"', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(NotAMessage):
        decode(line)
