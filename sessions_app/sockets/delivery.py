"""What the sockets of one process share: an ear, a tick, a door, and a feed per watched session."""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import Mapping
from typing import Any, Protocol

from sessions_app.hints import connection_group, session_group, user_group
from sessions_app.sockets.admission import Door
from sessions_app.sockets.arrivals import Arrivals
from sessions_app.sockets.catching_up import CatchUps
from sessions_app.sockets.ear import Ear
from sessions_app.sockets.feed import Feed
from sessions_app.sockets.patrol import Patrol
from sessions_app.sockets.patrol import Socket as Patrolled
from sessions_app.sockets.rights import State
from sessions_app.sockets.rows import RowRemover
from sessions_app.sockets.subscriber import Subscriber
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.ticker import Ticker
from sessions_app.sockets.together import Together


class Socket(Patrolled, Protocol):
    connection_id: uuid.UUID

    async def dispatch(self, message: dict[str, Any]) -> None: ...


class Delivery:
    """One per event loop; everything in it runs there."""

    def __init__(self) -> None:
        self.feeds: dict[uuid.UUID, Feed] = {}
        self.sockets: dict[uuid.UUID, Socket] = {}
        self.ear = Ear(self._route)
        self.ticker = Ticker()
        self.together = Together()
        self._endings: set[asyncio.Task[None]] = set()
        self.rows = RowRemover()
        self.door = Door(self.rows.remove)
        self._arrivals = Arrivals(self._add)
        self._catch_ups = CatchUps(self.feeds)
        self._patrol = Patrol(self.sockets, self.feeds)

    # -- sockets ------------------------------------------------------------------------------
    async def enter(self, socket: Socket) -> None:
        """From here on it can be addressed by the group of its own, and cut."""
        self.sockets[socket.connection_id] = socket
        self._patrol.start()
        await self.ear.join(connection_group(socket.connection_id))
        await self.ear.join(user_group(socket.user_id))

    async def leave(self, socket: Socket) -> None:
        self.rows.remove(socket.connection_id)
        if self.sockets.pop(socket.connection_id, None) is not None:
            await self.ear.leave(connection_group(socket.connection_id))
            await self.ear.leave(user_group(socket.user_id))

    # -- subscriptions ------------------------------------------------------------------------
    def subscribe(self, subscriber: Subscriber) -> None:
        self._arrivals.add(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Nothing of it is sent any more."""
        subscriber.is_over = True
        feed = self.feeds.get(subscriber.session_id)
        if feed is not None:
            feed.remove(subscriber)

    def note_ack(self, subscriber: Subscriber, seq: int) -> None:
        feed = self.feeds.get(subscriber.session_id)
        if subscriber.window.note_ack(seq) and feed is not None:
            feed.note_ack(subscriber)

    async def _add(self, subscriber: Subscriber, state: State) -> None:
        feed = self.feeds.get(subscriber.session_id)
        if feed is not None and feed.epoch != state.epoch:
            await feed.reset(state)
            feed = None
        if feed is None:
            feed = self.feeds[subscriber.session_id] = Feed(subscriber.session_id, state, self)
        await feed.add(subscriber, state)

    # -- what feeds ask of the house ----------------------------------------------------------
    def catch_up(self, subscriber: Subscriber) -> None:
        self._catch_ups.add(subscriber)

    def forget(self, feed: Feed) -> None:
        if self.feeds.get(feed.session_id) is feed:
            del self.feeds[feed.session_id]
        if feed.is_heard:
            ending = start_task(self.ear.leave(session_group(feed.session_id)), "feed's end")
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    # -- what the layer says ------------------------------------------------------------------
    async def _route(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "session.moved":
            feed = self.feeds.get(uuid.UUID(message["session"]))
            if feed is not None:
                feed.wake()
        elif message["type"] == "user.recheck":
            self._patrol.check_now(int(message["user"]))
        elif message["type"] == "connection.close":
            socket = self.sockets.get(uuid.UUID(message["connection"]))
            if socket is not None:
                await socket.dispatch(dict(message))


_deliveries: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Delivery] = (
    weakref.WeakKeyDictionary()
)


def delivery() -> Delivery:
    """That of the running event loop: a web process has one."""
    loop = asyncio.get_running_loop()
    found = _deliveries.get(loop)
    if found is None:
        found = _deliveries[loop] = Delivery()
    return found
