"""The template process of a worker host: `python -P -s -m cmbagent.template LISTENER ROSTER BUILD`.

It has imported and tried out all that an engine needs, and forks one engine for each connection
to LISTENER, a listening SOCK_SEQPACKET socket of its host; cmbagent.forking has the words. ROSTER
is the pipe in which it tells the host which engines live; without its reader it ends. It knows no
secret and keeps no connection: what a child finds in its memory is what every child finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import random
import resource
import selectors
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import openai
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from setproctitle import setproctitle

from cmbagent import agents, engine, newborn
from cmbagent.forking import (
    DESCRIPTORS,
    MAX_PACKET_BYTES,
    READY,
    ROSTER_WORD,
    Order,
    build_id,
    packet,
)

ENGINES_NEED = (OpenAIChatModel, OpenAIProvider)  # imported once, here
PR_SET_CHILD_SUBREAPER = 36
LOOK_S = 1.0  # how long a process that an engine left behind may go unnoticed
SWEEP_S = 0.005  # between two looks while something is being ended
OWN_DESCRIPTORS = 32  # at most, beside two for each engine: what it looks into, what it is sent
SWEPT_WITHIN_S = 1.0  # then the engine's end is told although something is left


class NotForkable(SystemExit):
    """Something in this process must not be copied: fresh interpreters serve."""


@dataclass
class Engine:
    """One that was forked from here, until it is buried."""

    connection: socket.socket
    pid: int
    pidfd: int
    status: int | None = None
    ended_at: float = 0.0
    is_told: bool = False
    is_let_go: bool = False  # nobody holds the other end of the connection


class Template:
    """Forks engines and buries them; one thread, and nothing in it waits."""

    def __init__(self, listener: socket.socket, roster: int, build: str) -> None:
        self._listener, self._roster, self._build = listener, roster, build
        self._inherited = newborn.Inherited(_generators())
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._places = (limit - OWN_DESCRIPTORS) // 2
        self._asking = 0  # connections of which no engine came yet
        self._engines: dict[int, Engine] = {}  # by pid
        self._strangers = 0  # killed since an engine's end was told
        self._selector = selectors.PollSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(roster, selectors.EVENT_READ, _end)  # its reader is gone

    def serve(self) -> NoReturn:
        self._tell_host(READY)
        while True:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._bury()

    def _patience(self) -> float:
        is_sweeping = any(e.status is not None and not e.is_told for e in self._engines.values())
        return SWEEP_S if is_sweeping else LOOK_S

    # -- births -------------------------------------------------------------------------------
    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the host was faster
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            if self._asking + len(self._engines) >= self._places:
                _refuse(connection)
                return
            self._asking += 1
            self._selector.register(
                connection, selectors.EVENT_READ, partial(self._take, connection)
            )

    def _take(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._asking -= 1
        received: list[int] = []
        try:
            content, received, _, _ = socket.recv_fds(
                connection, MAX_PACKET_BYTES, len(DESCRIPTORS)
            )
            self._answer(connection, cast("Order", json.loads(content)), received)
        except (OSError, ValueError, KeyError, TypeError):  # gone, or nobody who knows the words
            connection.close()
        finally:
            for descriptor in received:
                os.close(descriptor)

    def _answer(self, connection: socket.socket, order: Order, received: list[int]) -> None:
        if order["build"] != self._build:
            _send(connection, {"refused": f"this template is of build {self._build}"})
            sys.exit("cmbagent template: asked for another build, the host starts another template")
        if not order["run_id"]:
            _send(connection, {"pid": 0})
            connection.close()
        elif len(received) == len(DESCRIPTORS):
            self._fork(connection, order, received)
        else:
            connection.close()

    def _fork(self, connection: socket.socket, order: Order, received: list[int]) -> None:
        pid = os.fork()
        if pid == 0:
            _live(order, received, self._inherited)
        self._tell_host(pid)
        born = Engine(connection, pid, os.pidfd_open(pid))
        self._engines[pid] = born
        self._selector.register(born.pidfd, selectors.EVENT_READ, partial(self._end_of, born))
        self._selector.register(connection, selectors.EVENT_READ, partial(self._let_go, born))
        with contextlib.suppress(OSError):  # who asked is gone: the connection tells it next
            socket.send_fds(connection, [packet({"pid": pid})], [born.pidfd])

    # -- ends ---------------------------------------------------------------------------------
    def _end_of(self, engine: Engine) -> None:
        _kill_group(engine.pid)
        self._selector.unregister(engine.pidfd)
        engine.status = _status_of_zombie(engine.pid)
        engine.ended_at = time.monotonic()

    def _let_go(self, engine: Engine) -> None:
        _kill_group(engine.pid)
        self._selector.unregister(engine.connection)
        engine.is_let_go = True

    def _bury(self) -> None:
        left = self._kill_strangers()
        now = time.monotonic()
        for ended in [e for e in self._engines.values() if e.status is not None]:
            if not ended.is_told and (left == 0 or now - ended.ended_at > SWEPT_WITHIN_S):
                self._tell_end(ended)
            if ended.is_told and ended.is_let_go:
                self._forget(ended)

    def _tell_end(self, ended: Engine) -> None:
        ended.is_told = True
        with contextlib.suppress(OSError):
            _send(ended.connection, {"status": ended.status, "strangers": self._strangers})
        self._strangers = 0

    def _forget(self, ended: Engine) -> None:
        os.waitpid(ended.pid, 0)
        os.close(ended.pidfd)
        ended.connection.close()
        del self._engines[ended.pid]
        self._tell_host(-ended.pid)

    def _kill_strangers(self) -> int:
        """Whatever is our child and no engine was left behind by one. How many there were."""
        strangers = _children() - self._engines.keys()
        for pid in strangers:
            os.kill(pid, signal.SIGKILL)  # not reaped: the number is theirs
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                self._strangers += 1
        return len(strangers)

    def _tell_host(self, word: int) -> None:
        with contextlib.suppress(BlockingIOError):  # a host that is frozen does without
            try:
                os.write(self._roster, struct.pack(ROSTER_WORD, word))
            except BrokenPipeError:
                _end()


def _live(order: Order, received: list[int], inherited: newborn.Inherited) -> NoReturn:
    """In the child."""
    status = 1
    try:
        newborn.become_engine(order, received)
        inherited.give_up()
        status = engine.main(order["run_id"])
    except BaseException:  # noqa: BLE001 - the process's edge, as an interpreter's
        traceback.print_exc()
    finally:
        os._exit(status)


def _end() -> NoReturn:
    raise SystemExit(0)


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    connection.send(packet(message))


def _refuse(connection: socket.socket) -> None:
    """Before it reaches the limit of its descriptors: there it could not even look after the
    engines that it has."""
    with contextlib.suppress(OSError):  # who asked is gone
        _send(connection, {"refused": "this template has as many engines as it can"})
    connection.close()


def _kill_group(pid: int) -> None:
    """Only before it is reaped: so long the number is nobody else's."""
    os.kill(pid, signal.SIGKILL)  # it may be so young that it leads no group yet
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _status_of_zombie(pid: int) -> int:
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _children() -> set[int]:
    own = os.getpid()
    return set(map(int, Path(f"/proc/self/task/{own}/children").read_text().split()))


# -- becoming one -----------------------------------------------------------------------------
def _generators() -> list[random.Random]:
    """All that were seeded up to here: every child seeds its copy anew."""
    return [found for found in gc.get_objects() if issubclass(type(found), random.Random)]


def _refuse_what_must_not_be_copied(kept: set[int]) -> None:
    if "numpy" in sys.modules:
        raise NotForkable("NumPy is imported: engines would share its random state")
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise NotForkable("the template has threads: a fork would not be safe")
    if open_ones := _open_descriptors() - kept - {0, 1, 2}:
        raise NotForkable(f"descriptors {sorted(open_ones)} are open: engines would share them")
    clients = openai.OpenAI, openai.AsyncOpenAI
    if any(issubclass(type(found), clients) for found in gc.get_objects()):
        raise NotForkable("a client of a model is kept: engines would share it")


def _open_descriptors() -> set[int]:
    with os.scandir("/proc/self/fd") as entries:
        seen = {int(entry.name) for entry in entries}
    return {descriptor for descriptor in seen if Path(f"/proc/self/fd/{descriptor}").exists()}


def main(arguments: list[str]) -> NoReturn:
    listener_number, roster, build = int(arguments[1]), int(arguments[2]), arguments[3]
    setproctitle("cmbagent template")
    if build_id() != build:
        raise NotForkable("the engine's source has changed since run_workers started: restart it")
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    asyncio.run(agents.rehearse())
    gc.collect()
    _refuse_what_must_not_be_copied({listener_number, roster})
    listener = socket.socket(fileno=listener_number)
    for descriptor in (listener_number, roster):
        os.set_inheritable(descriptor, False)
    listener.setblocking(False)
    os.set_blocking(roster, False)
    template = Template(listener, roster, build)
    gc.freeze()
    template.serve()


if __name__ == "__main__":
    main(sys.argv)
