"""One client following one session: its cursor, its window, its format."""

from __future__ import annotations

import uuid
from enum import Enum, auto
from typing import Protocol

from sessions_app.sockets.formats import Format
from sessions_app.sockets.frames import MAX_EVENTS, Live, Reset, Subscribe, events_text
from sessions_app.sockets.reading import Reading, fit, size_of
from sessions_app.sockets.rights import State
from sessions_app.sockets.window import Room, Window

FIRST_ROWS = 100  # events may be 32 KB each: more rows are read when they prove small


class Ending(Enum):
    """Why a subscription ended by itself."""

    RESET = auto()
    GONE = auto()


class Client(Protocol):
    """What a subscriber needs of its socket."""

    user_id: int

    async def send_text(self, text: str) -> None: ...
    async def end_subscription(self, subscriber: Subscriber, ending: Ending) -> None: ...


class SharedFrames:
    """The texts of one handing-out: whoever is at the same position shares the same string."""

    def __init__(self, session_id: uuid.UUID, after: int, reading: Reading) -> None:
        self.after = after
        self._session_id = session_id
        self._count = reading.count
        self._pieces = {each: found[: reading.count] for each, found in reading.pieces.items()}
        self._sizes = {each: size_of(pieces) for each, pieces in self._pieces.items()}
        self._texts: dict[tuple[Format, int, int, int], str] = {}

    def fitting(self, fmt: Format, after: int, room: Room) -> int:
        """How many of the events behind this cursor may be sent."""
        if fmt not in self._pieces or not self.after <= after < self.after + self._count:
            return 0
        if self._count <= room.events and self._sizes[fmt] <= room.bytes:
            return self.after + self._count - after
        return fit(self._pieces[fmt][after - self.after :], room)

    def text(self, fmt: Format, subscription_id: int, first: int, last: int) -> str:
        key = (fmt, subscription_id, first, last)
        found = self._texts.get(key)
        if found is None:
            found = self._texts[key] = events_text(
                session=self._session_id,
                subscription_id=subscription_id,
                first=first,
                last=last,
                events=self._pieces[fmt][first - self.after - 1 : last - self.after],
            )
        return found


class Subscriber:
    __slots__ = (
        "_is_live",
        "client",
        "epoch",
        "format",
        "id",
        "is_catching_up",
        "is_over",
        "rows",
        "session_id",
        "window",
    )

    def __init__(self, client: Client, frame: Subscribe) -> None:
        self.client = client
        self.session_id: uuid.UUID = frame.session
        self.id = frame.id
        self.format: Format = frame.format
        self.epoch = frame.epoch
        self.window = Window(frame.after)
        self.rows = FIRST_ROWS
        self.is_catching_up = False  # one reading at a time
        self.is_over = False  # from then on nothing of it is sent any more
        self._is_live = False

    @property
    def sent(self) -> int:
        return self.window.sent

    def was_restored(self, state: State) -> bool:
        """Whether the log is no longer the one that this cursor counts in."""
        self.epoch = self.epoch or state.epoch
        return self.epoch != state.epoch or self.sent > state.head

    async def take(self, frames: SharedFrames) -> None:
        """What follows its cursor, as far as its window has room."""
        room = self.window.room()
        number = frames.fitting(self.format, self.sent, room) if room else 0
        if number and not self.is_over:
            first, last = self.sent + 1, self.sent + number
            text = frames.text(self.format, self.id, first, last)
            # noted first: a frame that may have left is never sent a second time
            self.window.note_sent(last, len(text))
            await self.client.send_text(text)

    def learn_rows(self, taken: int, *, was_cut: bool) -> None:
        """Of the next reading: as many events as it will probably send."""
        self.rows = taken + 1 if was_cut else min(2 * self.rows, MAX_EVENTS)

    async def say_live(self, head: int) -> None:
        """Caught up; said once."""
        if not self._is_live and not self.is_over and self.sent >= head:
            self._is_live = True
            await self.client.send_text(Live(session=self.session_id, head=self.sent).text())

    async def say_reset(self, state: State) -> None:
        if not self.is_over:
            reset = Reset(session=self.session_id, epoch=state.epoch, head=state.head)
            await self.client.send_text(reset.text())
            await self.client.end_subscription(self, Ending.RESET)

    async def say_gone(self) -> None:
        if not self.is_over:
            await self.client.end_subscription(self, Ending.GONE)
