"""The door: sockets that come together are let in together."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import structlog

from sessions_app.services import Newcomer, open_connections
from sessions_app.sockets.rights import Credentials, State, find_states, find_users
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.threads import in_writer

logger = structlog.get_logger(__name__)

AT_ONCE = 200
TRIES = 10  # a second apart, while the database is away
RETRY_SECONDS = 1.0


class Refusal(Enum):
    """Why a socket is not let in."""

    NOT_SIGNED_IN = auto()
    SESSION_GONE = auto()
    TOO_MANY = auto()
    NO_DATABASE = auto()


@dataclass(frozen=True, slots=True)
class Request:
    """A socket at the door; the session is that of its path."""

    credentials: Credentials
    session_id: uuid.UUID | None
    connection_id: uuid.UUID
    answer: asyncio.Future[int | Refusal]  # the user's id


class Door:
    """One transaction at a time for all that came since the last."""

    def __init__(self, remove_row: Callable[[uuid.UUID], None]) -> None:
        self._remove_row = remove_row
        self._queue: deque[Request] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def ask(
        self, credentials: Credentials, session_id: uuid.UUID | None, connection_id: uuid.UUID
    ) -> int | Refusal:
        """The user's id once the connection has a row. Whoever asked has it removed in the end."""
        answer: asyncio.Future[int | Refusal] = asyncio.get_running_loop().create_future()
        self._queue.append(Request(credentials, session_id, connection_id, answer))
        if self._worker is None or self._worker.done():
            self._worker = start_task(self._work(), "door")
        return await answer

    async def _work(self) -> None:
        while self._queue:
            together = [self._queue.popleft() for _ in range(min(len(self._queue), AT_ONCE))]
            self._tell(together, await self._answer_patiently(together))

    async def _answer_patiently(self, requests: Sequence[Request]) -> Sequence[int | Refusal]:
        """A process edge: everybody gets an answer, whatever ails the database."""
        for left in reversed(range(TRIES)):
            try:
                return await in_writer(answer_all, requests)
            except Exception as error:  # noqa: BLE001
                event = "admission_delayed" if left else "admission_failed"
                logger.warning(event, error=f"{type(error).__name__}: {error}")
            if left:
                await asyncio.sleep(RETRY_SECONDS)
        return [Refusal.NO_DATABASE] * len(requests)

    def _tell(self, requests: Sequence[Request], answers: Sequence[int | Refusal]) -> None:
        for request, answer in zip(requests, answers, strict=True):
            is_gone = request.answer.done()  # while the thread was writing its row
            if is_gone or answer is Refusal.NO_DATABASE:  # a commit may have been unconfirmed
                self._remove_row(request.connection_id)
            if not is_gone:
                request.answer.set_result(answer)


def answer_all(requests: Sequence[Request]) -> list[int | Refusal]:
    """Runs in a thread. In the order of the requests."""
    answers = _look_at(requests)
    newcomers = [
        Newcomer(request.connection_id, answer, request.session_id)
        for request, answer in zip(requests, answers, strict=True)
        if isinstance(answer, int)
    ]
    refused = open_connections(newcomers) if newcomers else set()
    return [
        Refusal.TOO_MANY if request.connection_id in refused else answer
        for request, answer in zip(requests, answers, strict=True)
    ]


def _look_at(requests: Sequence[Request]) -> list[int | Refusal]:
    users = find_users({request.credentials for request in requests})
    audiences: dict[uuid.UUID, set[int]] = {}
    for request in requests:
        user = users[request.credentials]
        if user is not None and request.session_id is not None:
            audiences.setdefault(request.session_id, set()).add(user)
    states = find_states(audiences) if audiences else {}
    return [_look_at_one(request, users[request.credentials], states) for request in requests]


def _look_at_one(
    request: Request, user: int | None, states: Mapping[uuid.UUID, State]
) -> int | Refusal:
    if user is None:
        return Refusal.NOT_SIGNED_IN
    if request.session_id is not None:
        state = states.get(request.session_id)
        if state is None or user not in state.viewers:
            return Refusal.SESSION_GONE
    return user
