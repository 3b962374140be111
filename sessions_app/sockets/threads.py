"""The threads in which sockets ask the database.

Outside an HTTP request Django's bridge runs everything in one thread of the process: one slow
query would stop every reader. These are a few threads of our own. Each keeps its database
connection: opening one costs PostgreSQL milliseconds, and HTTP's setting (close after each
request) would open one for every read. It is checked before use, so that a restarted database
is met with a new one.

Four read. Those who are behind get two of them at most (catching_up.py) and newcomers one
(arrivals.py), so that one at least is always there for feeds and tick: who reads live never waits
behind who catches up. What writes, and so may wait for a lock, has a thread apart.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from channels.db import database_sync_to_async
from django.db import connections

READERS = 4
KEEP_SECONDS = 600

P = ParamSpec("P")
R = TypeVar("R")


def _keep_connections() -> None:
    for connection in connections.all():
        kept = {"CONN_MAX_AGE": KEEP_SECONDS, "CONN_HEALTH_CHECKS": True}
        connection.settings_dict = {**connection.settings_dict, **kept}  # of this thread alone


def _pool(threads: int, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=_keep_connections)


_readers = _pool(READERS, "socket-reader")
_writer = _pool(1, "socket-writer")


async def in_reader(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The function's result; it may read from the database."""
    return await _run(_readers, function, *args, **kwargs)


async def in_writer(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The same for what writes: one after the other."""
    return await _run(_writer, function, *args, **kwargs)


async def _run(
    pool: ThreadPoolExecutor, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    call = database_sync_to_async(function, thread_sensitive=False, executor=pool)
    result: R = await call(*args, **kwargs)
    return result
