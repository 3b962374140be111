"""One client following one session: replay and live are the same reading, `seq > cursor`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Protocol

import structlog
from django.contrib.auth.models import User

from sessions_app.hints import session_group
from sessions_app.sockets.frames import MAX_EVENTS, Live, Reset, Subscribe, events_text
from sessions_app.sockets.link import LayerLink
from sessions_app.sockets.reading import Reading, read_log
from sessions_app.sockets.rights import SessionGone
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.threads import in_thread
from sessions_app.sockets.ticker import State, ticker
from sessions_app.sockets.window import Room, Window

logger = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
FIRST_ROWS = 100  # events may be 32 KB each: more rows are read when they prove small


class Client(Protocol):
    """What a subscription needs of its connection."""

    user: User
    link: LayerLink

    async def send_text(self, text: str) -> None: ...


class Ending(Enum):
    """Why a subscription ended by itself."""

    RESET = auto()
    GONE = auto()


OnEnd = Callable[["Subscription", Ending], Awaitable[None]]


class Subscription:
    """Its one task, the pump, wakes on a hint, an ack, the tick or a recheck of rights, and reads
    on from its cursor."""

    def __init__(self, client: Client, frame: Subscribe, on_end: OnEnd) -> None:
        self.session_id: uuid.UUID = frame.session
        self._id = frame.id
        self._epoch = frame.epoch
        self._format = frame.format
        self._client = client
        self._on_end = on_end
        self._window = Window(frame.after)
        self._is_live = False
        self._rows = FIRST_ROWS
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def sent(self) -> int:
        return self._window.sent

    def start(self) -> None:
        self._task = start_task(self._pump(), f"pump {self.session_id}")

    def is_at(self, state: State | None) -> bool:
        """Whether there is nothing to read; a session that is gone is something to look at."""
        return state is not None and state == (self._epoch, self._window.sent)

    def wake(self) -> None:
        self._wake.set()

    def ack(self, seq: int) -> None:
        if self._window.note_ack(seq):
            self._wake.set()

    async def stop(self) -> None:
        """After this nothing of this subscription is sent any more."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _pump(self) -> None:
        ticker.watch(self)
        try:
            # joined before the log is read: what is committed in between is either read or hinted
            await self._client.link.join(session_group(self.session_id))
            ending: Ending | None = None
            while ending is None:
                ending = await self._step_guarded()
        finally:
            ticker.unwatch(self)
        await self._on_end(self, ending)

    async def _step_guarded(self) -> Ending | None:
        """A process edge: whatever ails the database, the socket stays and reads on later."""
        try:
            return await self._step()
        except Exception as error:
            logger.warning(
                "reading_failed",
                session_id=str(self.session_id),
                error=f"{type(error).__name__}: {error}",
                exc_info=True,
            )
            await asyncio.sleep(RETRY_SECONDS)
            return None

    async def _step(self) -> Ending | None:
        self._wake.clear()
        room = self._window.room()
        if room is None:
            await self._wake.wait()
            return None
        try:
            reading = await self._read(room)
        except SessionGone:
            return Ending.GONE
        if self._was_restored(reading):
            await self._send_reset(reading)
            return Ending.RESET
        await self._send(reading)
        if not reading.events:
            await self._wake.wait()
        return None

    async def _read(self, room: Room) -> Reading:
        return await in_thread(
            read_log,
            self._client.user,
            self.session_id,
            after=self._window.sent,
            room=room,
            rows=self._rows,
            fmt=self._format,
        )

    def _was_restored(self, reading: Reading) -> bool:
        self._epoch = self._epoch or reading.epoch
        return self._epoch != reading.epoch or self._window.sent > reading.head

    async def _send_reset(self, reading: Reading) -> None:
        reset = Reset(session=self.session_id, epoch=reading.epoch, head=reading.head)
        await self._client.send_text(reset.text())

    async def _send(self, reading: Reading) -> None:
        if reading.events:
            await self._send_events(reading)
        if not self._is_live and self._window.sent == reading.head:
            self._is_live = True
            live = Live(session=self.session_id, head=reading.head)
            await self._client.send_text(live.text())

    async def _send_events(self, reading: Reading) -> None:
        first = self._window.sent + 1
        last = self._window.sent + len(reading.events)
        text = events_text(
            session=self.session_id,
            subscription_id=self._id,
            first=first,
            last=last,
            events=reading.events,
        )
        # noted first: a frame that may have left is never sent a second time
        self._window.note_sent(last, len(text))
        self._rows = len(reading.events) + 1 if reading.was_cut else min(2 * self._rows, MAX_EVENTS)
        await self._client.send_text(text)
