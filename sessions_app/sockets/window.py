"""How far a client has read, and how much more may be sent to it."""

from __future__ import annotations

from dataclasses import dataclass

from sessions_app.sockets.frames import MAX_EVENTS, MAX_EVENTS_BYTES

WINDOW_EVENTS = 4_000
WINDOW_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Room:
    """What the next frame may hold; one event is always allowed when nothing is under way."""

    events: int
    bytes: int
    at_least_one: bool


class Window:
    """daphne buffers without end for a client that does not read: only its acks say that it does.

    Bytes are given back by whole frames, events one by one.
    """

    __slots__ = ("_bytes", "_frames", "acked", "sent")

    def __init__(self, after: int) -> None:
        self.sent = self.acked = after
        self._bytes = 0
        self._frames: list[tuple[int, int]] = []  # last seq, size

    def room(self) -> Room | None:
        """None while the window is closed."""
        events = min(MAX_EVENTS, WINDOW_EVENTS - (self.sent - self.acked))
        size = min(MAX_EVENTS_BYTES, WINDOW_BYTES - self._bytes)
        if events <= 0 or size <= 0:
            return None
        return Room(events, size, at_least_one=self.sent == self.acked)

    def note_sent(self, last: int, size: int) -> None:
        self.sent = last
        self._bytes += size
        self._frames.append((last, size))

    def note_ack(self, seq: int) -> bool:
        """False for an ack that says nothing new, or more than was sent."""
        if not self.acked < seq <= self.sent:
            return False
        self.acked = seq
        self._forget_frames(seq)
        return True

    def _forget_frames(self, seq: int) -> None:
        done = 0
        while done < len(self._frames) and self._frames[done][0] <= seq:
            self._bytes -= self._frames[done][1]
            done += 1
        del self._frames[:done]
