"""What is done over and over for every open connection, made cheap for ten thousand of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from autobahn.websocket import protocol as autobahn_protocol
from daphne.server import Server
from twisted.internet import reactor

# Python's own are 700, 10, 10: walks over a heap that hardly has garbage stopped the event loop
# for half a second, again and again while sockets came
GARBAGE_THRESHOLDS = (50_000, 20, 100)
SHARE_OF_LOOKING = 0.02  # of the processor, for daphne's looks over all connections

_look: Callable[[Any], None] = Server.application_checker


def look_in_proportion(server: Any) -> None:
    """In place of daphne's own, which looks at every connection once a second: as often as its
    share of the processor allows. It buries what has ended; nobody waits for that."""
    running: Any = reactor
    started = time.monotonic()
    if started < getattr(server, "next_look", 0.0):
        running.callLater(1, server.application_checker)
        return
    _look(server)  # and once a second it is asked again
    ended = time.monotonic()
    server.next_look = ended + (ended - started) / SHARE_OF_LOOKING


def _say_nothing(_: object) -> str:
    return ""


def install() -> None:
    """Once everything is imported, before daphne serves."""
    Server.application_checker = look_in_proportion
    protocol: Any = autobahn_protocol
    # it lays out all options of each connection for a log line that nobody sees
    protocol.pformat = _say_nothing
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
