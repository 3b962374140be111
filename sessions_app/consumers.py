"""The WebSocket of protocol.md section 3: one consumer per open socket, no task of its own.

Of channels' AsyncConsumer two things are overridden. `dispatch`: the stock one asks the database
about old connections at every message (158 µs, in one thread for all), and whatever a handler
raises closes the socket with 1011, which the client would meet again for ever. `__call__`: the
stock one makes a channel of the layer and two tasks for each socket; here one channel hears for
all sockets of the process (sockets/ear.py) and calls `dispatch` of the one that is meant.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import structlog
from channels.consumer import AsyncConsumer, get_handler_name
from channels.exceptions import StopConsumer
from django.conf import settings

from sessions_app.sockets.admission import Refusal
from sessions_app.sockets.allowance import Allowance, Rewinds
from sessions_app.sockets.delivery import delivery
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
from sessions_app.sockets.rights import Credentials
from sessions_app.sockets.subscriber import Ending, Subscriber

logger = structlog.get_logger(__name__)

Message = dict[str, Any]

SIGN_IN, GONE, TOO_MANY, TOO_BIG, RESTARTING = 4401, 4404, 4408, 1009, 1012
CODES = {
    Refusal.NOT_SIGNED_IN: SIGN_IN,
    Refusal.SESSION_GONE: GONE,
    Refusal.TOO_MANY: TOO_MANY,
    Refusal.NO_DATABASE: RESTARTING,  # the client comes back by itself
}
MAX_SUBSCRIPTIONS = 50


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


NO_PATH = Path(session_id=None, after=0)
NOTHING_SHOWN = Credentials(bearer=None, cookie=None)


class SocketConsumer(AsyncConsumer):
    """One open socket."""

    def __init__(self) -> None:
        """All of it here: what is added to an object later costs it 400 bytes."""
        self.base_send: Any = None
        self.credentials = NOTHING_SHOWN
        self.connection_id = uuid.uuid4()
        self.user_id = 0
        self.checked_at = 0.0
        self._path = NO_PATH
        self._subscriptions: dict[uuid.UUID, Subscriber] = {}
        self._allowance = Allowance()
        self._rewinds = Rewinds()
        self._is_closed = False
        self._may_have_row = False

    # -- the life of a socket -----------------------------------------------------------------
    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        self.base_send = send
        self.credentials = Credentials.of(scope["headers"])
        self._path = Path.of(scope)
        try:
            while True:
                await self.dispatch(await receive())
        except StopConsumer:
            pass
        finally:
            await self._clean_up()

    async def dispatch(self, message: Message) -> None:
        """To the handler of this type, from the client or from the house."""
        try:
            await getattr(self, get_handler_name(message))(message)
        except StopConsumer:
            raise
        except Exception:
            logger.exception(
                "socket_failed", connection_id=str(self.connection_id), message_type=message["type"]
            )

    async def websocket_connect(self, _: Message) -> None:
        await self.base_send({"type": "websocket.accept"})
        self._may_have_row = True
        answer = await delivery().door.ask(
            self.credentials, self._path.session_id, self.connection_id
        )
        if isinstance(answer, Refusal):
            self._may_have_row = False
            await self._close(CODES[answer])
            return
        self.user_id, self.checked_at = answer, time.monotonic()
        logger.info("socket_opened", connection_id=str(self.connection_id), user_id=answer)
        # its own group first: from here on it can be cut
        await delivery().enter(self)
        hello = Hello(connection_id=self.connection_id, build=settings.VERSION)
        await self.send_text(hello.text())
        await self._subscribe_to_path()

    async def websocket_receive(self, message: Message) -> None:
        if self._is_closed:  # until the client has answered a close of ours
            return
        text = message.get("text")
        if text is None:
            await self._say_error("bad_frame", "Frames are JSON text, not binary.")
        elif len(text) > MAX_FRAME_BYTES or len(text.encode()) > MAX_FRAME_BYTES:
            await self._close(TOO_BIG)
        else:
            await self._take_text(text)

    async def websocket_disconnect(self, _: Message) -> None:
        raise StopConsumer

    async def connection_close(self, message: Message) -> None:
        """Somebody in the house cuts this socket."""
        await self._close(int(message["code"]))

    async def sign_out(self) -> None:
        """What it showed at the door lets nobody in any more."""
        await self._close(SIGN_IN)

    async def _close(self, code: int) -> None:
        """From here on nothing more is sent: also what feeds have for it."""
        if not self._is_closed:
            self._is_closed = True
            self._end_all()
            await self.base_send({"type": "websocket.close", "code": code})

    async def _clean_up(self) -> None:
        self._is_closed = True
        self._end_all()
        if self._may_have_row:
            await delivery().leave(self)

    def _end_all(self) -> None:
        for subscriber in self._subscriptions.values():
            delivery().unsubscribe(subscriber)
        self._subscriptions.clear()

    async def send_text(self, text: str) -> None:
        if not self._is_closed:
            await self.base_send({"type": "websocket.send", "text": text})

    # -- what the client says -----------------------------------------------------------------
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
            self._leave(frame.session)
        else:
            await self._answer_ping(frame)

    async def _subscribe(self, frame: Subscribe) -> None:
        if frame.session in self._subscriptions or self._rewinds.is_return(frame.session):
            if not self._rewinds.take():
                message = "Too many rewinds in a minute; nothing was changed."
                await self._say_error("slow_down", message, frame.session)
                return
            self._unsubscribe(frame.session)
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            message = f"At most {MAX_SUBSCRIPTIONS} subscriptions on one socket."
            await self._say_error("too_many_subscriptions", message, frame.session)
            return
        subscriber = Subscriber(self, frame)
        self._subscriptions[frame.session] = subscriber
        delivery().subscribe(subscriber)

    async def _subscribe_to_path(self) -> None:
        if self._path.session_id is None:
            return
        if self._path.after is None:
            await self._say_error("bad_frame", "after: a number from 0 on.", self._path.session_id)
            return
        await self._subscribe(
            Subscribe(type="subscribe", session=self._path.session_id, after=self._path.after)
        )

    def _leave(self, session_id: uuid.UUID) -> None:
        if session_id in self._subscriptions:
            self._rewinds.note_left(session_id)
            self._unsubscribe(session_id)

    def _unsubscribe(self, session_id: uuid.UUID) -> None:
        subscriber = self._subscriptions.pop(session_id, None)
        if subscriber is not None:
            delivery().unsubscribe(subscriber)

    def _acknowledge(self, frame: Ack) -> None:
        subscriber = self._subscriptions.get(frame.session)
        if subscriber is not None:
            delivery().note_ack(subscriber, frame.seq)

    async def _answer_ping(self, frame: Ping) -> None:
        sent = {session: each.sent for session, each in self._subscriptions.items()}
        await self.send_text(Pong(id=frame.id, sent=sent).text())

    async def _say_error(
        self, code: ErrorCode, message: str, session: uuid.UUID | None = None
    ) -> None:
        await self.send_text(ErrorFrame(code=code, message=message, session=session).text())

    # -- what the stream says -----------------------------------------------------------------
    async def end_subscription(self, subscriber: Subscriber, ending: Ending) -> None:
        """It ended by itself; a reset was said by it."""
        if self._subscriptions.get(subscriber.session_id) is not subscriber:
            return  # replaced meanwhile
        self._unsubscribe(subscriber.session_id)
        if ending is Ending.GONE and subscriber.session_id == self._path.session_id:
            await self._close(GONE)
        elif ending is Ending.GONE:
            await self._say_error("not_found", "No such session.", subscriber.session_id)
