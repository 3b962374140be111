"""Frames, windows, pieces of the log, allowances: what a socket is made of, without one."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sessions_app.models import Event
from sessions_app.serialization import event_json
from sessions_app.sockets.allowance import BURST, Allowance
from sessions_app.sockets.formats import Format, encode_events
from sessions_app.sockets.frames import (
    EVENTS_OVERHEAD,
    MAX_EVENTS_BYTES,
    Events,
    FrameRefused,
    Subscribe,
    encode_event,
    events_text,
    parse_frame,
    socket_schema,
)
from sessions_app.sockets.reading import contiguous, fit
from sessions_app.sockets.window import WINDOW_BYTES, WINDOW_EVENTS, Room, Window
from tests.deployment import BASE_DIR

SESSION = uuid.UUID("4ab52335-0a3a-4ff4-a0c6-ed83cdb6ec0e")
PLENTY = Room(events=500, bytes=MAX_EVENTS_BYTES, at_least_one=True)


def event(seq: int, text: str = "x") -> Event:
    moment = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
    data = {"stream": "stdout", "line": 1, "text": text, "cont": False}
    return Event(session_id=SESSION, seq=seq, event_type="output", data=data, created_at=moment)


def test_an_event_in_json() -> None:
    assert event_json(event(5)) == {
        "seq": 5,
        "event_type": "output",
        "timestamp": "2026-11-22T12:00:00.123Z",
        "session_id": str(SESSION),
        "run_id": None,
        "step": None,
        "data": {"stream": "stdout", "line": 1, "text": "x", "cont": False},
    }


@pytest.mark.parametrize("fmt", ["json", "html"])
def test_an_events_frame_is_what_the_schema_says_and_its_size_is_known(fmt: Format) -> None:
    pieces = encode_events([event(1), event(2, "é\U0001f600\ud800")], fmt)
    text = events_text(
        session=SESSION, subscription_id=2**53, first=2**40, last=2**40, events=pieces
    )
    assert Events.model_validate_json(text.replace("\\ud800", "")).events[1].seq == 2
    assert len(text.encode()) - len(",".join(pieces)) <= EVENTS_OVERHEAD


def test_an_event_in_html_has_its_place_in_the_page_and_no_data() -> None:
    (line,) = encode_events([event(5)], "html")
    assert json.loads(line) == {
        "seq": 5,
        "event_type": "output",
        "timestamp": "2026-11-22T12:00:00.123Z",
        "session_id": str(SESSION),
        "run_id": None,
        "step": None,
        "slot": "console",
        "op": "append",
        "html": "",
        "meta": {"stream": "stdout", "line": 1, "text": "x", "cont": False},
    }


def test_a_piece_of_the_log_ends_at_a_gap() -> None:
    assert len(contiguous([event(1), event(2), event(4)], after=0)) == 2
    assert contiguous([event(2)], after=0) == []


def test_a_piece_of_the_log_is_cut_by_size_but_one_event_always_fits() -> None:
    long, huge = "y" * 100_000, "y" * 200_000
    assert fit([long, long], PLENTY) == 1
    assert fit([huge, "y"], PLENTY) == 1
    assert fit([huge], Room(events=500, bytes=MAX_EVENTS_BYTES, at_least_one=False)) == 0
    assert fit(["y"] * 500, PLENTY) == 500


def test_the_window_closes_by_events_and_opens_by_acks() -> None:
    window = Window(after=10)
    for last in range(510, 10 + WINDOW_EVENTS + 1, 500):
        assert window.room() is not None
        window.note_sent(last, 1000)
    assert window.room() is None
    assert window.note_ack(15)
    assert window.room() == Room(events=5, bytes=MAX_EVENTS_BYTES, at_least_one=False)
    assert window.note_ack(window.sent)
    assert window.room() == PLENTY


def test_the_window_closes_by_bytes_and_opens_by_whole_frames() -> None:
    window = Window(after=0)
    for last in range(2, 18, 2):
        window.note_sent(last, WINDOW_BYTES // 8)
    assert window.room() is None
    assert window.note_ack(1)
    assert window.room() is None
    assert window.note_ack(2)
    assert window.room() is not None


@pytest.mark.parametrize("seq", [0, 3, 4, 6, 99])
def test_an_ack_that_says_nothing_changes_nothing(seq: int) -> None:
    window = Window(after=3)
    window.note_sent(5, 100)
    window.note_ack(4)
    assert not window.note_ack(seq)
    assert window.acked == 4


def test_a_frame_is_parsed() -> None:
    frame = parse_frame(json.dumps({"type": "subscribe", "session": str(SESSION), "after": 7}))
    assert frame == Subscribe(type="subscribe", session=SESSION, after=7)


def test_what_a_client_sent_is_not_repeated_to_it_at_length() -> None:
    for hostile in ({"type": "x" * 60_000}, {"type": "ping", "y" * 60_000: 1}):
        with pytest.raises(FrameRefused) as refused:
            parse_frame(json.dumps(hostile))
        assert len(str(refused.value)) < 300


def test_any_event_can_be_encoded() -> None:
    assert encode_event({"text": "\ud800é"}).isascii()


def test_an_allowance_is_refilled_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    allowance = Allowance()
    assert [allowance.take() for _ in range(int(BURST) + 1)].count(False) == 1
    now += 0.125
    assert [allowance.take() for _ in range(9)].count(True) == 6


def test_the_published_schema_is_current() -> None:
    published = Path(BASE_DIR, "docs", "socket.schema.json").read_text()
    assert json.loads(published) == socket_schema(), (
        "run: manage.py socket_schema > docs/socket.schema.json"
    )
