"""This process's ear in the channel layer. Everything it hears is a hint; it may be deaf.

One channel and one task for all sockets: a channel each would cost every idle socket several KB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from channels.layers import BaseChannelLayer, get_channel_layer

from sessions_app.sockets.tasks import start_task

logger = structlog.get_logger(__name__)

PATIENCE_SECONDS = 1.0  # nobody waits longer for the layer: what it says can be read elsewhere
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 15.0  # channels_redis keeps a little of each attempt at a new channel

OnMessage = Callable[[dict[str, Any]], Awaitable[None]]


class Ear:
    """In each group for as long as somebody here wants it; joined again while the layer refuses."""

    def __init__(self, on_message: OnMessage) -> None:
        layer = get_channel_layer()
        if layer is None:
            raise RuntimeError("CHANNEL_LAYERS has no default layer")
        self._layer: BaseChannelLayer = layer
        self._on_message = on_message
        self._channel: str | None = None
        self._wanted: dict[str, int] = {}  # how many want it
        self._missing: set[str] = set()
        self._is_open = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._mender: asyncio.Task[None] | None = None

    async def join(self, group: str) -> None:
        """In the group; or, when the layer is away, as soon as it is back."""
        self._wanted[group] = self._wanted.get(group, 0) + 1
        if self._listener is None:
            self._listener = start_task(self._listen(), "ear")
        if self._channel is None:
            await self._wait_for_the_channel()
        elif self._wanted[group] == 1:
            await self._join_now(group)

    async def leave(self, group: str) -> None:
        self._wanted[group] = self._wanted.get(group, 1) - 1
        if self._wanted[group] > 0:
            return
        del self._wanted[group]
        self._missing.discard(group)
        if self._channel is not None:
            await self._guarded(self._layer.group_discard(group, self._channel))

    async def _wait_for_the_channel(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._is_open.wait()
        except TimeoutError:
            logger.warning("layer_is_away")

    async def _join_now(self, group: str) -> None:
        if await self._try_to_join(group):
            return
        self._missing.add(group)
        if self._mender is None or self._mender.done():
            self._mender = start_task(self._mend(), "ear mender")

    async def _listen(self) -> None:
        self._channel = await self._new_channel()
        for group in list(self._wanted):
            await self._join_now(group)
        self._is_open.set()
        while True:
            await self._hear_once(self._channel)

    async def _new_channel(self) -> str:
        pause = FIRST_RETRY_SECONDS
        while True:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    return await self._layer.new_channel()
            except Exception as error:  # noqa: BLE001  whatever ails the layer, the tick reads on
                _note(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_RETRY_SECONDS)

    async def _hear_once(self, channel: str) -> None:
        try:
            message = await self._layer.receive(channel)
            await self._on_message(message)
        except Exception as error:  # noqa: BLE001  an odd message or a broken layer
            _note(error)
            await asyncio.sleep(FIRST_RETRY_SECONDS)

    async def _mend(self) -> None:
        while self._missing:
            await asyncio.sleep(FIRST_RETRY_SECONDS)
            for group in list(self._missing):
                if await self._try_to_join(group):
                    self._missing.discard(group)

    async def _try_to_join(self, group: str) -> bool:
        assert self._channel is not None
        return await self._guarded(self._layer.group_add(group, self._channel))

    async def _guarded(self, call: Awaitable[None]) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await call
        except Exception as error:  # noqa: BLE001  whatever ails the layer, the tick reads on
            _note(error)
            return False
        return True


def _note(error: Exception) -> None:
    logger.warning("layer_failed", error=f"{type(error).__name__}: {error}")
