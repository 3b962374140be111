"""A channel layer for one host: a message is one Unix datagram to every process that listens.

Each process that receives has one socket in the layer's folder and one thread that empties it:
the kernel keeps only a few datagrams per socket (often 10), and an event loop that is busy for
a moment would lose the rest. What arrives is handed to the event loops of the process, equal
messages once, and from there to the members of the group alone.

Messages are JSON objects of hints: they may be lost, doubled or late without harm. Nothing here
waits for a receiver that is stuck.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import threading
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer

PREFIX: Final = "layer-"  # the folder has other sockets too
MAX_DATAGRAM: Final = 256 * 1024
MAX_ARRIVED: Final = 10_000  # different messages that wait for a busy event loop
FULL_RETRIES: Final = 2
FULL_PAUSE: Final = 0.005  # the thread of a living receiver needs far less


class SocketFolder:
    """The sockets of all listening processes, reached through one descriptor of their folder.

    A Unix address holds 108 bytes and the folder's path may be longer: /proc/self/fd/N/name is not.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)  # whoever may write here may speak to every reader
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)

    def bind(self, name: str) -> socket.socket:
        """A socket that others see only once it answers, lest they take it for a dead one."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bound.bind(self._address(f".{name}"))
        os.rename(f".{name}", name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        return bound

    def names(self) -> list[str]:
        # by path: reading the descriptor itself would share one position with other threads
        # and with processes forked from this one, and skip entries
        with os.scandir(self._address("")) as entries:
            return [entry.name for entry in entries if entry.name.startswith(PREFIX)]

    def send(self, name: str, datagram: bytes) -> bool:
        """False when its buffer is full; a socket whose process is gone is removed."""
        try:
            self._sender.sendto(datagram, self._address(name))
        except ConnectionRefusedError:
            self.remove(name)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.ENOBUFS}:
                raise
            return False
        return True

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def close(self) -> None:
        self._sender.close()
        os.close(self._descriptor)

    def _address(self, name: str) -> str:
        return f"/proc/self/fd/{self._descriptor}/{name}"


class Mailbox:
    """What waits for one channel: different messages, oldest first, the oldest dropped if many."""

    __slots__ = ("_capacity", "_pending", "_waiter", "groups")

    def __init__(self, capacity: int) -> None:
        self.groups: set[str] = set()
        self._capacity = capacity
        self._pending: dict[bytes, None] = {}
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_watched(self) -> bool:
        return self._waiter is not None

    def put(self, payload: bytes) -> None:
        if payload not in self._pending and len(self._pending) >= self._capacity:
            del self._pending[next(iter(self._pending))]
        self._pending[payload] = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> bytes:
        if self._waiter is not None:
            raise RuntimeError("a channel has one reader")
        try:
            while not self._pending:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        finally:
            self._waiter = None
        payload = next(iter(self._pending))
        del self._pending[payload]
        return payload


class Station:
    """The channels and groups of one event loop; all but `arrive` runs in that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: int) -> None:
        self.loop = loop
        self._capacity = capacity
        self._boxes: dict[str, Mailbox] = {}
        self._groups: dict[str, dict[str, None]] = {}
        self._arrived: dict[tuple[str, bytes], None] = {}
        self._lock = threading.Lock()

    def box(self, channel: str) -> Mailbox:
        return self._boxes.setdefault(channel, Mailbox(self._capacity))

    def join(self, group: str, channel: str) -> None:
        self._groups.setdefault(group, {})[channel] = None
        self.box(channel).groups.add(group)

    def leave(self, group: str, channel: str) -> None:
        members = self._groups.get(group, {})
        members.pop(channel, None)
        if not members:
            self._groups.pop(group, None)
        box = self._boxes.get(channel)
        if box is not None:
            box.groups.discard(group)
            if not box.groups and not box.is_watched:
                del self._boxes[channel]

    def forget(self, channel: str) -> None:
        box = self._boxes.get(channel)
        for group in list(box.groups) if box else []:
            self.leave(group, channel)
        self._boxes.pop(channel, None)

    def clear(self) -> None:
        for channel in list(self._boxes):
            self.forget(channel)

    def arrive(self, target: str, payload: bytes) -> None:
        """From the receiving thread. Nobody's messages, and equal ones, cost the loop nothing."""
        if target not in self._groups and target not in self._boxes:
            return
        with self._lock:
            is_first = not self._arrived
            if len(self._arrived) < MAX_ARRIVED:
                self._arrived[target, payload] = None
        if is_first:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens
                self.loop.call_soon_threadsafe(self._distribute)

    def _distribute(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, {}
        for target, payload in arrived:
            for channel in self._groups.get(target, {target: None}):
                if (box := self._boxes.get(channel)) is not None:
                    box.put(payload)


Stations = dict[asyncio.AbstractEventLoop, Station]


class Receiver:
    """This process's socket and the thread that empties it."""

    def __init__(self, folder: SocketFolder, stations: Stations) -> None:
        self.name = f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._stations = stations
        self._is_closed = False
        self._socket = folder.bind(self.name)
        self._thread = threading.Thread(target=self._read, name="channel-layer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closed = True
        self._folder.remove(self.name)
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join(timeout=1)
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: the socket is the parent's, and dead only when nobody holds it."""
        self._socket.close()

    def _read(self) -> None:
        while True:
            try:
                datagram = self._socket.recv(MAX_DATAGRAM)
            except OSError:
                return
            if self._is_closed:
                return
            target, _, payload = datagram.partition(b"\n")
            for station in list(self._stations.values()):
                station.arrive(target.decode("ascii", "replace"), payload)


class Office:
    """What one process holds of the layer; made when first needed, and anew after a fork."""

    def __init__(self, path: Path, capacity: int) -> None:
        self._path = path
        self._capacity = capacity
        self._start_over()

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._folder: SocketFolder | None = None
        self._receiver: Receiver | None = None
        self._stations: Stations = {}

    def folder(self) -> SocketFolder:
        with self._lock:
            if self._folder is None:
                self._folder = SocketFolder(self._path)
            return self._folder

    def receiver(self) -> Receiver:
        folder = self.folder()
        with self._lock:
            if self._receiver is None:
                self._receiver = Receiver(folder, self._stations)
            return self._receiver

    def station(self) -> Station:
        """Of the running event loop."""
        loop = asyncio.get_running_loop()
        station = self._stations.get(loop)
        if station is None:
            self.receiver()
            with self._lock:
                self._drop_closed_loops()
                station = self._stations[loop] = Station(loop, self._capacity)
        return station

    def _drop_closed_loops(self) -> None:
        for loop in [loop for loop in list(self._stations) if loop.is_closed()]:
            del self._stations[loop]

    def close(self) -> None:
        if self._receiver is not None:
            self._receiver.close()
        if self._folder is not None:
            self._folder.close()
        self._start_over()

    def abandon(self) -> None:
        if self._receiver is not None:
            self._receiver.abandon()
        if self._folder is not None:
            self._folder.close()
        self._start_over()


class UnixDatagramLayer(BaseChannelLayer):
    """Channels of this process and groups over all processes that share `folder`.

    `capacity` bounds what waits for one channel. There are no channels that several processes
    read (names without "!"): nothing in this house uses them.
    """

    extensions = ("groups", "flush")

    def __init__(self, folder: Path | str, capacity: int = 100) -> None:
        super().__init__(capacity=capacity)
        self._office = Office(Path(folder), capacity)
        weakref.finalize(self, self._office.close)
        os.register_at_fork(after_in_child=_abandon(weakref.ref(self._office)))

    async def new_channel(self, prefix: str = "specific.") -> str:
        self._office.station()
        return f"{prefix}{self._office.receiver().name}!{uuid.uuid4().hex}"

    async def receive(self, channel: str) -> dict[str, Any]:
        self.require_valid_channel_name(channel)
        station = self._office.station()
        try:
            payload = await station.box(channel).take()
        except asyncio.CancelledError:
            # The one sign that a consumer is gone; channels_redis reads it in the same way.
            station.forget(channel)
            raise
        message: dict[str, Any] = json.loads(payload)
        return message

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        self.require_valid_channel_name(channel)
        owner = channel.partition("!")[0].rpartition(".")[2]
        if not owner.startswith(PREFIX):
            raise TypeError(f"{channel!r} is no channel that new_channel() gave out")
        if not self._office.folder().send(owner, _datagram(channel, message)):
            raise ChannelFull(channel)

    async def group_add(self, group: str, channel: str) -> None:
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        self._office.station().join(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self._office.station().leave(group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.require_valid_group_name(group)
        folder, datagram = self._office.folder(), _datagram(group, message)
        full = [name for name in folder.names() if not folder.send(name, datagram)]
        for _ in range(FULL_RETRIES):
            if not full:
                return
            await asyncio.sleep(FULL_PAUSE)
            full = [name for name in full if not folder.send(name, datagram)]

    async def flush(self) -> None:
        """Forgets the groups and messages of the running event loop; other processes keep theirs."""
        self._office.station().clear()

    def close(self) -> None:
        """Removes this process's socket; the next use makes a new one."""
        self._office.close()


def _datagram(target: str, message: dict[str, Any]) -> bytes:
    return target.encode("ascii") + b"\n" + json.dumps(message, separators=(",", ":")).encode()


def _abandon(office: weakref.ref[Office]) -> Callable[[], None]:
    """Not a bound method: what is registered at fork is never released."""

    def abandon() -> None:
        if (inherited := office()) is not None:
            inherited.abandon()

    return abandon
