"""Feeds that move at the same time are read together: a thousand sessions that each get a line a
second would be some thousands of queries, and are some dozens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from django.db import Error

from sessions_app.sockets.reading import Question, Reading, read_logs
from sessions_app.sockets.tasks import start_task
from sessions_app.sockets.threads import in_reader

AT_ONCE = 2  # calls; while they are under way the next gather
MOST = 50  # questions in a call

Answer = Reading | Exception | None


class Together:
    def __init__(self) -> None:
        self._queue: deque[tuple[Question, asyncio.Future[Reading | None]]] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    async def read(self, question: Question) -> Reading | None:
        """None when the session is there for none of those who ask."""
        answer: asyncio.Future[Reading | None] = asyncio.get_running_loop().create_future()
        self._queue.append((question, answer))
        if len(self._workers) < AT_ONCE:
            worker = start_task(self._work(), "reading together")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return await answer

    async def _work(self) -> None:
        while self._queue:
            asked = [self._queue.popleft() for _ in range(min(len(self._queue), MOST))]
            answers = await self._answer([question for question, _ in asked])
            for (_, future), answer in zip(asked, answers, strict=True):
                _tell(future, answer)

    async def _answer(self, questions: Sequence[Question]) -> Sequence[Answer]:
        """What one session's log does to its reader is not the others' affair."""
        try:
            return await in_reader(read_logs, questions)
        except Exception as error:  # noqa: BLE001  each feed tells of its own
            if len(questions) == 1 or isinstance(error, Error):
                return [error] * len(questions)
        return [answer for each in questions for answer in await self._answer([each])]


def _tell(future: asyncio.Future[Reading | None], answer: Answer) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
