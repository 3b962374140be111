"""A blocking call in a daemon thread of its own, awaited from the event loop.

Not asyncio's executor: its threads hold up the end of the process, and ours may stand in a write
to a supervisor that reads no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_thread(function: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """Start it now; the future brings its result or its error."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            settle = _settle_with(future, function())
        except BaseException as error:  # noqa: BLE001 - the thread's edge: the awaiter gets it
            settle = _fail_with(future, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future


def _settle_with(future: asyncio.Future[T], result: T) -> Callable[[], None]:
    return lambda: None if future.done() else future.set_result(result)


def _fail_with(future: asyncio.Future[T], error: BaseException) -> Callable[[], None]:
    return lambda: None if future.done() else future.set_exception(error)
