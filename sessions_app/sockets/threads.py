"""The threads in which sockets ask the database.

Outside an HTTP request Django's bridge runs everything in one thread of the process: one slow
query would stop every reader. These are a few threads of our own. Each keeps its database
connection: opening one costs PostgreSQL milliseconds, and HTTP's setting (close after each
request) would open one for every read. It is checked before use, so that a restarted database
is met with a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from channels.db import database_sync_to_async
from django.db import connections

THREADS = 4
KEEP_SECONDS = 600

P = ParamSpec("P")
R = TypeVar("R")


def _keep_connections() -> None:
    for connection in connections.all():
        kept = {"CONN_MAX_AGE": KEEP_SECONDS, "CONN_HEALTH_CHECKS": True}
        connection.settings_dict = {**connection.settings_dict, **kept}  # of this thread alone


_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="socket", initializer=_keep_connections)


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The function's result; it may use the database."""
    call = database_sync_to_async(function, thread_sensitive=False, executor=_pool)
    result: R = await call(*args, **kwargs)
    return result
