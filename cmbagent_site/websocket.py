"""The server's side of WebSockets: whose page may open one, and what daphne leaves undone."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache, partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

from daphne.server import Server  # installs the asyncio reactor, before anything asks for one
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from twisted.internet import reactor
from twisted.internet.task import deferLater

from sessions_app.sockets.frames import MAX_FRAME_BYTES

Message = dict[str, Any]
Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

MAX_WAITING_FRAMES = 500
MAX_UNSENT_BYTES = 16 * 2**20  # who reads at all never has so many windows under way
TEXT = 0x81  # a whole message of text
POLICY_VIOLATION, RESTARTING = 1008, 1012
FLUSH_SECONDS = 0.2  # for the last frames to leave before the process does


class OriginCheck:
    """Refuses (403) a page of another site, which would come with the user's cookie.

    Programs send no Origin and are let in: they have to show a token.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if may_open(scope["headers"]):
            await self._application(scope, receive, send)
        else:
            await send({"type": "websocket.close"})


def may_open(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    found = {name: value.decode("latin1") for name, value in headers}
    origin = found.get(b"origin")
    return origin is None or is_ours(origin, found.get(b"host", ""))


def is_ours(origin: str, host: str) -> bool:
    """Whether a page of `origin` was served under `host`; as Django's own check of forms.

    A port counts: another server on this machine shares our cookies, not our trust.
    """
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in {"http", "https"} or parts.netloc.lower() != host.lower():
        return False
    if settings.SESSION_COOKIE_SECURE and parts.scheme != "https":
        return False
    domain, _ = split_domain_port(host)
    return validate_host(domain, settings.ALLOWED_HOSTS)


@lru_cache(maxsize=8)
def wire(text: str) -> bytes:
    """A text as a WebSocket frame of a server. A feed sends one text to all its subscribers."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        return bytes((TEXT, size)) + payload
    if size < 2**16:
        return struct.pack("!BBH", TEXT, 126, size) + payload
    return struct.pack("!BBQ", TEXT, 127, size) + payload


class Inbox:
    """What a connection has received and its application has not. For one reader; an
    asyncio.Queue takes 3 KB of each idle socket."""

    __slots__ = ("_messages", "_waiter")

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._waiter: asyncio.Future[None] | None = None

    def qsize(self) -> int:
        return len(self._messages)

    def put_nowait(self, message: Message) -> None:
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Message:
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._messages.pop(0)


def create_application(server: Any, protocol: Any, scope: dict[str, Any]) -> Inbox | None:
    """In place of daphne's own, which differs in the kind of its queue."""
    inbox = Inbox()
    scope.setdefault("asgi", {"version": "3.0"})
    running = server.application(
        scope=scope, receive=inbox.get, send=partial(server.handle_reply, protocol)
    )
    if protocol not in server.connections:
        running.close()
        return None
    server.connections[protocol]["application_instance"] = asyncio.ensure_future(running)
    return inbox


def say_goodbye() -> Any:
    """At SIGTERM: clients hear that it is a restart, and the server waits until it is said.

    Not left to the applications that daphne cancels: an HTTP request that ended within the last
    second makes its loop over them fail (KeyError) at the first.
    """
    for protocol in list(SocketProtocol.open_sockets):
        protocol.sendCloseFrame(code=RESTARTING)
    return deferLater(reactor, FLUSH_SECONDS)


class SocketProtocol(WebSocketProtocol):  # type: ignore[misc]  # daphne ships no types
    """daphne's WebSocket with close codes of ours and a bound on what a connection may hold."""

    open_sockets: ClassVar[set[SocketProtocol]] = set()
    failByDrop = False  # noqa: N815  autobahn's name: say why (1009) before the end
    maxFramePayloadSize = MAX_FRAME_BYTES  # noqa: N815  too long a frame is not even collected

    def serverClose(self, code: int | None = None) -> None:  # noqa: N802  daphne's name
        """autobahn lets an application send 1000 and 3000-4999 only; 1009 and 1012 are promised."""
        self.sendCloseFrame(code=1000 if code is None else code)

    def onOpen(self) -> None:  # noqa: N802
        self.open_sockets.add(self)
        super().onOpen()
        self._forget_the_handshake()

    def _forget_the_handshake(self) -> None:
        """The application has read it; kept, it would be 5 KB of each idle socket."""
        self.clean_headers.clear()
        self.request.headers = {}
        self.http_headers: dict[str, str] = {}
        self.__dict__ = dict(self.__dict__)  # as small as what is left of it

    def serverSend(self, content: str | bytes, binary: bool = False) -> None:  # noqa: N802
        """autobahn would make the same frame anew for each of a thousand subscribers."""
        if isinstance(content, str) and self.state == self.STATE_OPEN and not self.send_queue:
            self.transport.write(wire(content))
        else:
            super().serverSend(content, binary)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # noqa: N802, N803
        self.open_sockets.discard(self)
        super().onClose(wasClean, code, reason)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        """Who sends faster than we read is cut: daphne would queue without end."""
        if self.application_queue.qsize() < MAX_WAITING_FRAMES:
            super().onMessage(payload, isBinary)
        else:
            self.sendCloseFrame(code=POLICY_VIOLATION)

    def check_timeouts(self) -> None:
        """Every two seconds: who does not read at all is cut as well."""
        if self._unsent_bytes() > MAX_UNSENT_BYTES:
            self.transport.abortConnection()
        else:
            super().check_timeouts()

    def _unsent_bytes(self) -> int:
        waiting: int = len(self.transport.dataBuffer) + self.transport._tempDataLen
        return waiting


def install() -> None:
    """Has daphne use all this; called once, before it serves."""
    WebSocketFactory.protocol = SocketProtocol
    Server.create_application = create_application
    running: Any = reactor  # its interface is declared without `self`: mypy misreads it
    running.addSystemEventTrigger("before", "shutdown", say_goodbye)
