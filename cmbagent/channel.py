"""The engine's end of the channel to its supervisor."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from cmbagent import lifeline, wire

_CHUNK = 256 * 1024


class Channel:
    """Sends messages, and waits for the answers. Without a supervisor there is no run: end of
    input kills the engine's group."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._lines = wire.Lines()
        self._received: list[bytes] = []
        self._collected: asyncio.Queue[wire.Collected] = asyncio.Queue()
        self._collecting = asyncio.Lock()
        self._storing: dict[str, asyncio.Future[None]] = {}
        self.halted = asyncio.Event()

    @classmethod
    async def over(cls, connected: socket.socket) -> Channel:
        return cls(*await asyncio.open_connection(sock=connected))

    async def start(self) -> tuple[wire.Start, list[wire.Entry]]:
        """The first message, and what earlier attempts finished."""
        start = cast("wire.Start", await self._receive())
        entries = [await self._receive() for _ in range(start["journal_entries"])]
        return start, cast("list[wire.Entry]", entries)

    async def pump(self) -> None:
        """Take what comes after the start, for ever."""
        while True:
            message = await self._receive()
            match message["t"]:
                case "collected":
                    self._collected.put_nowait(cast("wire.Collected", message))
                case "stored":
                    stored = self._storing.pop(message["key"])
                    if not stored.done():  # who waited was cancelled
                        stored.set_result(None)
                case "halt":
                    self.halted.set()

    def send(self, message: wire.EngineMessage) -> None:
        self._writer.write(wire.encode(message))

    async def flush(self) -> None:
        """Wait until the supervisor has taken most of what was sent: its pace is ours."""
        await self._writer.drain()

    async def keep(self, entry: wire.Entry) -> None:
        """Returns when the entry is committed, or never."""
        stored = asyncio.get_running_loop().create_future()
        self._storing[entry["key"]] = stored
        self.send(entry)
        await stored

    async def collect(self) -> wire.Collected:
        """Have the supervisor take the files that are there now. One at a time."""
        async with self._collecting:
            self.send({"t": "collect"})
            return await self._collected.get()

    async def close(self) -> None:
        """Returns when the supervisor's socket has taken everything."""
        self._writer.close()
        await self._writer.wait_closed()

    async def _receive(self) -> dict[str, Any]:
        while not self._received:
            data = await self._reader.read(_CHUNK)
            if not data:
                lifeline.end_group()
            self._received = self._lines.feed(data)
        return wire.decode(self._received.pop(0))
