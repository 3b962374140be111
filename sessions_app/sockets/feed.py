"""The one reader of a watched session in this process: reads the log once, serialises it once
for each format in use, and hands the same text to every subscriber that is where it is."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Protocol

import structlog

from sessions_app.hints import session_group
from sessions_app.sockets.ear import Ear
from sessions_app.sockets.reading import WHOLE_FRAME, Question, Reading
from sessions_app.sockets.rights import State
from sessions_app.sockets.subscriber import FIRST_ROWS, SharedFrames, Subscriber
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.ticker import Position, Ticker
from sessions_app.sockets.together import Together

logger = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
AT_A_STRETCH = 50  # sends before others get their turn in the event loop
LONGEST_PAUSE = 0.5
MAX_ROWS = WHOLE_FRAME.events


class House(Protocol):
    """What a feed needs of its process."""

    ear: Ear
    ticker: Ticker
    together: Together

    def catch_up(self, subscriber: Subscriber) -> None: ...
    def forget(self, feed: Feed) -> None: ...


class Feed:
    """It reads when a hint, the tick or a recheck of rights wakes it; a quiet one has no task.

    `at` is its cursor. Who is behind it (came late, did not read, went back) reads by itself until
    it is here again; who is ahead waits.
    """

    __slots__ = (
        "_house",
        "_is_due",
        "_rows",
        "_subscribers",
        "_task",
        "at",
        "epoch",
        "is_heard",
        "looked_at",
        "session_id",
    )

    def __init__(self, session_id: uuid.UUID, state: State, house: House) -> None:
        self.session_id = session_id
        self.epoch = state.epoch
        self.at = state.head
        self.looked_at = time.monotonic()  # when rights were asked last
        self._house = house
        self._subscribers: dict[Subscriber, None] = {}
        self._rows = FIRST_ROWS
        self._is_due = False
        self.is_heard = False  # by the ear
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        self._is_due = True
        if self._task is None and self._subscribers:
            self._task = start_task(self._run(), "feed")

    def is_at(self, position: Position | None) -> bool:
        """Whether there is nothing to read; a session that is gone is something to look at."""
        return position == (self.epoch, self.at)

    # -- who follows it -----------------------------------------------------------------------
    async def add(self, subscriber: Subscriber, state: State) -> None:
        """One whose right was just asked for."""
        if not self._subscribers:
            self._house.ticker.watch(self)
        self._subscribers[subscriber] = None
        if not self.is_heard:
            self.wake()
        if subscriber.sent < self.at:
            self._house.catch_up(subscriber)
        else:
            await subscriber.say_live(state.head)

    def remove(self, subscriber: Subscriber) -> None:
        """With the last one it ends."""
        self._subscribers.pop(subscriber, None)
        if not self._subscribers:
            self._house.ticker.unwatch(self)
            self._house.forget(self)

    def note_ack(self, subscriber: Subscriber) -> None:
        """Its window has opened: if something was kept from it, it reads that by itself."""
        if subscriber.sent < self.at:
            self._house.catch_up(subscriber)

    async def reset(self, state: State) -> None:
        """A backup was restored: for everybody here the log begins again."""
        for subscriber in list(self._subscribers):
            await subscriber.say_reset(state)

    # -- reading ------------------------------------------------------------------------------
    async def _run(self) -> None:
        try:
            await self._be_heard()
            while self._is_due and self._subscribers:
                self._is_due = False
                await self._step_guarded()
        finally:
            self._task = None

    async def _be_heard(self) -> None:
        """Before the log is read: what is committed in between is either read or hinted."""
        if not self.is_heard:
            self.is_heard = True
            await self._house.ear.join(session_group(self.session_id))

    async def _step_guarded(self) -> None:
        """A process edge: whatever ails the database, the sockets stay and the feed reads on."""
        try:
            await self._step()
        except Exception as error:
            logger.warning(
                "reading_failed",
                session_id=str(self.session_id),
                error=f"{type(error).__name__}: {error}",
                exc_info=True,
            )
            await asyncio.sleep(RETRY_SECONDS)
            self._is_due = True

    async def _step(self) -> None:
        audience = frozenset(each.client.user_id for each in self._subscribers)
        reading = await self._read(audience)
        if reading is None:
            await self._dismiss(audience)
            return
        self.looked_at = time.monotonic()
        if reading.state.epoch != self.epoch or reading.state.head < self.at:
            await self.reset(reading.state)
            return
        await self._dismiss(audience - reading.state.viewers)
        await self._hand_out_and_pause(reading)

    async def _read(self, audience: frozenset[int]) -> Reading | None:
        """Without events while nobody could take them: each will read for itself."""
        question = Question(
            self.session_id,
            for_users=audience,
            after=self.at,
            formats={each.format for each in self._subscribers if self._could_take(each)},
            room=WHOLE_FRAME,
            rows=self._rows,
        )
        return await self._house.together.read(question)

    def _could_take(self, subscriber: Subscriber) -> bool:
        return subscriber.sent >= self.at and subscriber.window.room() is not None

    async def _dismiss(self, user_ids: frozenset[int]) -> None:
        for subscriber in list(self._subscribers):
            if subscriber.client.user_id in user_ids:
                await subscriber.say_gone()

    # -- handing out --------------------------------------------------------------------------
    async def _hand_out_and_pause(self, reading: Reading) -> None:
        """Handing out to a thousand takes the process tens of milliseconds. As long again is left
        to the others; what is written meanwhile goes into the next frame."""
        started = time.monotonic()
        await self._hand_out(reading)
        if reading.count and self.at < reading.state.head:
            self._is_due = True
        await asyncio.sleep(min(time.monotonic() - started, LONGEST_PAUSE))

    async def _hand_out(self, reading: Reading) -> None:
        frames = SharedFrames(self.session_id, self.at, reading)
        self._advance(reading)
        for number, subscriber in enumerate(list(self._subscribers)):
            await self._serve(subscriber, reading, frames)
            if number % AT_A_STRETCH == AT_A_STRETCH - 1:
                await asyncio.sleep(0)

    def _advance(self, reading: Reading) -> None:
        if reading.count:
            self.at += reading.count
            cut = reading.was_cut
            self._rows = reading.count + 1 if cut else min(2 * self._rows, MAX_ROWS)
        elif not reading.pieces:
            self.at = reading.state.head

    async def _serve(self, subscriber: Subscriber, reading: Reading, frames: SharedFrames) -> None:
        """Nothing for who came after the question for rights was asked: they ask by themselves."""
        if subscriber.is_over:
            return
        if subscriber.client.user_id in reading.state.viewers:
            await subscriber.take(frames)
        if subscriber.sent < self.at:
            self._house.catch_up(subscriber)
        else:
            await subscriber.say_live(self.at)
