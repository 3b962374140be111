"""Reading for those who are behind: a page each in turn, never in the way of who reads live."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Mapping

import structlog

from sessions_app.sockets.feed import RETRY_SECONDS, Feed
from sessions_app.sockets.reading import Question, Reading, read_log
from sessions_app.sockets.subscriber import SharedFrames, Subscriber
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.threads import in_reader
from sessions_app.sockets.window import Room

logger = structlog.get_logger(__name__)

AT_ONCE = 2  # of the four threads that read


class CatchUps:
    """Who has had a page goes to the end of the queue: nobody waits for another's whole log."""

    def __init__(self, feeds: Mapping[uuid.UUID, Feed]) -> None:
        self._feeds = feeds
        self._queue: deque[Subscriber] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    def add(self, subscriber: Subscriber) -> None:
        if not subscriber.is_catching_up:
            subscriber.is_catching_up = True
            self._enqueue(subscriber)

    def _enqueue(self, subscriber: Subscriber) -> None:
        self._queue.append(subscriber)
        if len(self._workers) < AT_ONCE:
            worker = start_task(self._work(), "catching up")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        while self._queue:
            await self._serve(self._queue.popleft())

    async def _serve(self, subscriber: Subscriber) -> None:
        """A process edge: whatever ails the database, the subscriber's turn comes again."""
        try:
            goes_on = await self._read_a_page(subscriber)
        except Exception as error:
            logger.warning(
                "reading_failed",
                session_id=str(subscriber.session_id),
                error=f"{type(error).__name__}: {error}",
                exc_info=True,
            )
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._enqueue, subscriber)
            return
        if goes_on:
            self._enqueue(subscriber)
        else:
            subscriber.is_catching_up = False

    async def _read_a_page(self, subscriber: Subscriber) -> bool:
        """Whether there is more for it now; when its window closed, its next ack brings it here."""
        room, acked = subscriber.window.room(), subscriber.window.acked
        if subscriber.is_over or room is None:
            return False
        reading = await self._read(subscriber, room)
        if reading is None:
            await subscriber.say_gone()
            return False
        if subscriber.was_restored(reading.state):
            await subscriber.say_reset(reading.state)
            return False
        await self._send(subscriber, reading)
        # what has no room for even one event waits for an ack, unless that came meanwhile
        has_room = reading.count > 0 or subscriber.window.acked > acked
        return has_room and self._is_behind(subscriber)

    async def _read(self, subscriber: Subscriber, room: Room) -> Reading | None:
        question = Question(
            subscriber.session_id,
            for_users=frozenset({subscriber.client.user_id}),
            after=subscriber.sent,
            formats={subscriber.format},
            room=room,
            rows=subscriber.rows,
        )
        return await in_reader(read_log, question)

    async def _send(self, subscriber: Subscriber, reading: Reading) -> None:
        before = subscriber.sent
        await subscriber.take(SharedFrames(subscriber.session_id, before, reading))
        subscriber.learn_rows(subscriber.sent - before, was_cut=reading.was_cut)
        await subscriber.say_live(reading.state.head)

    def _is_behind(self, subscriber: Subscriber) -> bool:
        feed = self._feeds.get(subscriber.session_id)
        room = subscriber.window.room()
        if feed is None or room is None or subscriber.is_over:
            return False
        return subscriber.sent < feed.at
