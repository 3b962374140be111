"""The WebSocket of protocol.md section 3: one object per open socket.

It is a plain ASGI application, not a channels consumer: that one asks the database about old
connections at every message (158 µs, in one thread for all), and whatever its channel layer or
its handlers raise closes the socket with 1011, which the client would meet again for ever.
Here no handler touches the database or the layer: pumps and the link do, and they try again.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import Error
from structlog.contextvars import bind_contextvars

from sessions_app.errors import ConnectionLimitReached
from sessions_app.hints import connection_group, session_group
from sessions_app.sockets.allowance import Allowance
from sessions_app.sockets.frames import (
    MAX_FRAME_BYTES,
    Ack,
    ErrorCode,
    ErrorFrame,
    FrameRefused,
    Hello,
    Ping,
    Pong,
    Subscribe,
    Unsubscribe,
    parse_frame,
)
from sessions_app.sockets.link import LayerLink
from sessions_app.sockets.rights import (
    Admitted,
    Credentials,
    NotSignedIn,
    SessionGone,
    admit,
    find_user,
)
from sessions_app.sockets.rows import row_remover
from sessions_app.sockets.subscription import Ending, Subscription
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.threads import in_thread

logger = structlog.get_logger(__name__)

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SIGN_IN, GONE, TOO_MANY, TOO_BIG, RESTARTING = 4401, 4404, 4408, 1009, 1012
MAX_SUBSCRIPTIONS = 50
RECHECK_SECONDS = 30.0
ADMISSION_TRIES = 10  # a second apart, while the database is away


@dataclass(frozen=True, slots=True)
class Path:
    """Where a socket came in: a session to follow from `after` (None: not a number), or none."""

    session_id: uuid.UUID | None
    after: int | None

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Path:
        query = parse_qs(scope.get("query_string", b"").decode("ascii", "replace"))
        after = query.get("after", ["0"])[-1]
        is_number = after.isascii() and after.isdigit() and len(after) <= 15
        return cls(
            session_id=_session_of(scope["url_route"]["kwargs"].get("session_id")),
            after=int(after) if is_number else None,
        )


def _session_of(text: str | None) -> uuid.UUID | None:
    """What is no id is the nil UUID: no session, and nobody is told why."""
    try:
        return uuid.UUID(text) if text is not None else None
    except ValueError:
        return uuid.UUID(int=0)


async def serve_socket(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application of every WebSocket path."""
    credentials = Credentials.of(scope["headers"])
    await SocketConsumer(Path.of(scope), credentials, receive, send).run()


class SocketConsumer:
    """One open socket. Its tasks: this one, the layer link, and a pump per subscription."""

    def __init__(self, path: Path, credentials: Credentials, receive: Receive, send: Send) -> None:
        self.user: User
        self.link = LayerLink(self._take_hint)
        self._path = path
        self._credentials = credentials
        self._receive = receive
        self._send = send
        self._connection_id: uuid.UUID | None = None
        self._subscriptions: dict[uuid.UUID, Subscription] = {}
        self._allowance = Allowance()
        self._is_closed = False
        self._recheck: asyncio.TimerHandle | asyncio.Task[None] | None = None

    # -- the life of a socket -----------------------------------------------------------------
    async def run(self) -> None:
        await self._receive()  # websocket.connect
        await self._send({"type": "websocket.accept"})
        try:
            await self._open()
            await self._read_frames()
        finally:
            await self._clean_up()

    async def _open(self) -> None:
        admitted = await self._admit()
        if admitted is None:
            return
        self.user, self._connection_id = admitted.user, admitted.connection_id
        bind_contextvars(connection_id=str(admitted.connection_id), user_id=self.user.pk)
        logger.info("socket_opened")
        # its own group first: from here on it can be cut
        await self.link.start(connection_group(admitted.connection_id))
        await self.send_text(
            Hello(connection_id=admitted.connection_id, build=settings.VERSION).text()
        )
        self._schedule_recheck()
        await self._subscribe_to_path()

    async def _read_frames(self) -> None:
        """To the end of the socket: also after a close of ours, until the client has answered."""
        while (message := await self._receive())["type"] != "websocket.disconnect":
            if not self._is_closed:
                await self._take_message(message)

    async def _clean_up(self) -> None:
        if self._recheck is not None:
            self._recheck.cancel()
        for subscription in list(self._subscriptions.values()):
            await subscription.stop()
        self._subscriptions.clear()
        await self.link.stop()
        if self._connection_id is not None:
            row_remover.remove(self._connection_id)

    async def _close(self, code: int) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._send({"type": "websocket.close", "code": code})

    async def send_text(self, text: str) -> None:
        if not self._is_closed:
            await self._send({"type": "websocket.send", "text": text})

    # -- rights -------------------------------------------------------------------------------
    async def _admit(self) -> Admitted | None:
        try:
            return await self._admit_patiently()
        except NotSignedIn:
            await self._close(SIGN_IN)
        except SessionGone:
            await self._close(GONE)
        except ConnectionLimitReached:
            await self._close(TOO_MANY)
        except Error as error:
            logger.warning("admission_failed", error=f"{type(error).__name__}: {error}")
            await self._close(RESTARTING)  # the client comes back by itself
        return None

    async def _admit_patiently(self) -> Admitted:
        for _ in range(ADMISSION_TRIES - 1):
            try:
                return await self._admit_once()
            except Error as error:
                logger.warning("admission_delayed", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(1)
        return await self._admit_once()

    async def _admit_once(self) -> Admitted:
        """Its row is removed even when the socket goes while the thread is still writing it."""
        admission = asyncio.ensure_future(
            in_thread(admit, self._credentials, self._path.session_id)
        )
        try:
            return await asyncio.shield(admission)
        except asyncio.CancelledError:
            admission.add_done_callback(_remove_late_row)
            raise

    def _schedule_recheck(self) -> None:
        seconds = RECHECK_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311  not all at once
        self._recheck = asyncio.get_running_loop().call_later(seconds, self._start_recheck)

    def _start_recheck(self) -> None:
        self._recheck = start_task(self._recheck_rights(), "recheck")

    async def _recheck_rights(self) -> None:
        """Who the user is; what they may see is asked with every reading, so each reads now."""
        try:
            user = await in_thread(find_user, self._credentials)
        except Error as error:
            logger.warning("recheck_failed", error=f"{type(error).__name__}: {error}")
        else:
            if user is None:
                await self._close(SIGN_IN)
                return
            self.user = user
            for subscription in self._subscriptions.values():
                subscription.wake()
        self._schedule_recheck()

    # -- what the client says -----------------------------------------------------------------
    async def _take_message(self, message: Message) -> None:
        text = message.get("text")
        if text is None:
            await self._say_error("bad_frame", "Frames are JSON text, not binary.")
        elif len(text) > MAX_FRAME_BYTES or len(text.encode()) > MAX_FRAME_BYTES:
            await self._close(TOO_BIG)
        else:
            await self._take_text(text)

    async def _take_text(self, text: str) -> None:
        try:
            frame = parse_frame(text)
        except FrameRefused as refused:
            await self._say_error(refused.code, str(refused))
            return
        if isinstance(frame, Ack):  # never refused: a lost ack would stop the stream
            self._acknowledge(frame)
        elif not self._allowance.take():
            await self._say_error("slow_down", "Too many frames; ask less often.")
        elif isinstance(frame, Subscribe):
            await self._subscribe(frame)
        elif isinstance(frame, Unsubscribe):
            await self._unsubscribe(frame.session)
        else:
            await self._answer_ping(frame)

    async def _subscribe(self, frame: Subscribe) -> None:
        if frame.session in self._subscriptions:
            await self._subscriptions.pop(frame.session).stop()
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            message = f"At most {MAX_SUBSCRIPTIONS} subscriptions on one socket."
            await self._say_error("too_many_subscriptions", message, frame.session)
            return
        subscription = Subscription(self, frame, self._end_subscription)
        self._subscriptions[frame.session] = subscription
        subscription.start()

    async def _subscribe_to_path(self) -> None:
        if self._path.session_id is None:
            return
        if self._path.after is None:
            await self._say_error("bad_frame", "after: a number from 0 on.", self._path.session_id)
            return
        await self._subscribe(
            Subscribe(type="subscribe", session=self._path.session_id, after=self._path.after)
        )

    async def _unsubscribe(self, session_id: uuid.UUID) -> None:
        subscription = self._subscriptions.pop(session_id, None)
        if subscription is not None:
            await subscription.stop()
            await self.link.leave(session_group(session_id))

    def _acknowledge(self, frame: Ack) -> None:
        subscription = self._subscriptions.get(frame.session)
        if subscription is not None:
            subscription.ack(frame.seq)

    async def _answer_ping(self, frame: Ping) -> None:
        sent = {session: each.sent for session, each in self._subscriptions.items()}
        await self.send_text(Pong(id=frame.id, sent=sent).text())

    async def _say_error(
        self, code: ErrorCode, message: str, session: uuid.UUID | None = None
    ) -> None:
        await self.send_text(ErrorFrame(code=code, message=message, session=session).text())

    # -- what the house says ------------------------------------------------------------------
    async def _take_hint(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "connection.close":
            await self._close(int(message["code"]))
        elif message["type"] == "session.moved":
            subscription = self._subscriptions.get(uuid.UUID(message["session"]))
            if subscription is not None:
                subscription.wake()

    async def _end_subscription(self, subscription: Subscription, ending: Ending) -> None:
        if self._subscriptions.get(subscription.session_id) is not subscription:
            return  # replaced meanwhile
        del self._subscriptions[subscription.session_id]
        await self.link.leave(session_group(subscription.session_id))
        if ending is Ending.GONE and subscription.session_id == self._path.session_id:
            await self._close(GONE)
        elif ending is Ending.GONE:
            await self._say_error("not_found", "No such session.", subscription.session_id)


def _remove_late_row(admission: asyncio.Future[Admitted]) -> None:
    if not admission.cancelled() and admission.exception() is None:
        row_remover.remove(admission.result().connection_id)
