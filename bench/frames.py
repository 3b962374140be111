"""As much of the WebSocket protocol as a client of our own server needs, and of our frames."""

from __future__ import annotations

import json
import re
from datetime import datetime

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
NO_MASK = b"\0\0\0\0"  # a client must mask; with zeros that changes nothing
TYPE = re.compile(rb'"type":\s?"(\w+)"')
TOLD_AT = re.compile(r"@(\d{10}\.\d{6})")  # in the text of an event: when the line was said
HEAD_BYTES = 100  # of a frame: there is its type


class News:
    """What an `events` frame brings."""

    __slots__ = ("first", "last", "lines", "stored", "told")

    def __init__(self, payload: bytes) -> None:
        frame = json.loads(payload)
        self.first, self.last = int(frame["first"]), int(frame["last"])
        printed = "".join(e["data"]["text"] for e in frame["events"] if e["event_type"] == "output")
        self.lines = printed.count("\n")
        self.told = [float(found) for found in TOLD_AT.findall(printed)]
        self.stored = [
            datetime.fromisoformat(event["timestamp"]).timestamp() for event in frame["events"]
        ]


def kind_of(payload: bytes) -> bytes:
    found = TYPE.search(payload, 0, HEAD_BYTES)
    return found[1] if found else b""


def client_frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    head = bytes([0x80 | opcode])
    if size < 126:
        return head + bytes([0x80 | size]) + NO_MASK + payload
    return head + bytes([0x80 | 126]) + size.to_bytes(2, "big") + NO_MASK + payload


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """(opcode, payload) of the whole frames, and what is left of one that is not whole."""
    frames = []
    at, end = 0, len(data)
    while end - at >= 2:
        opcode, size, begins = data[at] & 0x0F, data[at + 1] & 0x7F, at + 2
        if size == 126:
            size, begins = int.from_bytes(data[begins : begins + 2], "big"), begins + 2
        elif size == 127:
            size, begins = int.from_bytes(data[begins : begins + 8], "big"), begins + 8
        if begins + size > end:
            break
        frames.append((opcode, data[begins : begins + size]))
        at = begins + size
    return frames, data[at:]
