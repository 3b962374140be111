"""The server's side of WebSockets: whose page may open one, and what daphne leaves undone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import daphne.server  # noqa: F401  installs the asyncio reactor, before anything asks for one
from daphne.ws_protocol import WebSocketProtocol
from django.conf import settings
from django.http.request import split_domain_port, validate_host

from sessions_app.sockets.frames import MAX_FRAME_BYTES

Message = dict[str, Any]
Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

MAX_WAITING_FRAMES = 500
MAX_UNSENT_BYTES = 64 * 2**20  # the windows of all subscriptions of one socket
POLICY_VIOLATION = 1008


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
        headers = {name: value.decode("latin1") for name, value in scope["headers"]}
        origin = headers.get(b"origin")
        if origin is None or is_ours(origin, headers.get(b"host", "")):
            await self._application(scope, receive, send)
        else:
            await send({"type": "websocket.close"})


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


class SocketProtocol(WebSocketProtocol):  # type: ignore[misc]  # daphne ships no types
    """daphne's WebSocket with close codes of ours and a bound on what a connection may hold."""

    failByDrop = False  # noqa: N815  autobahn's name: say why (1009) before the end
    maxFramePayloadSize = MAX_FRAME_BYTES  # noqa: N815  too long a frame is not even collected

    def serverClose(self, code: int | None = None) -> None:  # noqa: N802  daphne's name
        """autobahn lets an application send 1000 and 3000-4999 only; 1009 and 1012 are promised."""
        self.sendCloseFrame(code=1000 if code is None else code)

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
