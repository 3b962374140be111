"""Subscriptions on their way in: those that come together are asked for together."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from sessions_app.sockets.rights import State, find_states
from sessions_app.sockets.subscriber import Subscriber
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.threads import in_reader

logger = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0
AT_ONCE = 500

OnArrival = Callable[[Subscriber, State], Awaitable[None]]


class Arrivals:
    """One question at a time, for all that came since the last: ten thousand that reconnect in a
    moment are some dozens of questions."""

    def __init__(self, on_arrival: OnArrival) -> None:
        self._on_arrival = on_arrival
        self._queue: deque[Subscriber] = deque()
        self._worker: asyncio.Task[None] | None = None

    def add(self, subscriber: Subscriber) -> None:
        self._queue.append(subscriber)
        if self._worker is None or self._worker.done():
            self._worker = start_task(self._work(), "arrivals")

    async def _work(self) -> None:
        """A process edge: nobody is forgotten, whatever ails the database."""
        while self._queue:
            together = [self._queue.popleft() for _ in range(min(len(self._queue), AT_ONCE))]
            try:
                states = await in_reader(find_states, _audiences(together))
            except Exception as error:  # noqa: BLE001
                logger.warning("arrival_delayed", error=f"{type(error).__name__}: {error}")
                self._queue.extendleft(reversed(together))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for subscriber in together:
                await self._let_in(subscriber, states.get(subscriber.session_id))

    async def _let_in(self, subscriber: Subscriber, state: State | None) -> None:
        if subscriber.is_over:
            return
        if state is None or subscriber.client.user_id not in state.viewers:
            await subscriber.say_gone()
        elif subscriber.was_restored(state):
            await subscriber.say_reset(state)
        else:
            await self._on_arrival(subscriber, state)


def _audiences(subscribers: Sequence[Subscriber]) -> dict[uuid.UUID, set[int]]:
    audiences: dict[uuid.UUID, set[int]] = {}
    for subscriber in subscribers:
        audiences.setdefault(subscriber.session_id, set()).add(subscriber.client.user_id)
    return audiences
