"""Frames that the server makes once for many, as a client of another's making reads them."""

from __future__ import annotations

import asyncio

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from cmbagent_site.websocket import Inbox, wire


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_a_text_becomes_one_frame(size: int) -> None:
    stream = StreamReader()
    stream.feed_data(wire("x" * size))
    parsing = Frame.parse(stream.read_exact, mask=False)
    with pytest.raises(StopIteration) as parsed:
        next(parsing)
    frame = parsed.value.value
    assert (frame.opcode, frame.fin, frame.data) == (Opcode.TEXT, True, b"x" * size)
    assert stream.buffer == b""


async def test_an_inbox_gives_what_came_in_order_and_waits() -> None:
    inbox = Inbox()
    for number in range(3):
        inbox.put_nowait({"type": str(number)})
    assert inbox.qsize() == 3
    assert [(await inbox.get())["type"] for _ in range(3)] == ["0", "1", "2"]
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait({"type": "late"})
    assert (await waiting)["type"] == "late"
