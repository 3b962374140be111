"""A worker process for a measurement: sees runs through, alternately with an engine in a process
of its own and with one in this very process. bench.isolation starts it in a deployment."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.contrib.auth.models import User

from cmbagent.agents import converse
from cmbagent.channel import Channel
from cmbagent.context import Run
from cmbagent.driver import outcome_of
from cmbagent.journal import Journal
from execution_app import control, sandbox, services, supervisor
from execution_app.engine_process import EngineProcess
from execution_app.template_keeper import TemplateKeeper
from sessions_app.services import create_session
from tests.endpoint import task_of

LIMIT = 1000


class EngineInWorker:
    """What EngineProcess is to a supervisor, without a process: the engine is a thread."""

    exit_status = 0

    def __init__(self, run_id: str, work_dir: Path, environment: Mapping[str, str]) -> None:
        del run_id, work_dir, environment
        self.pid = os.getpid()
        self._environment = dict(os.environ)
        self._console = [os.dup(1), os.dup(2)]
        self.stdout, self.stderr = _captured(1), _captured(2)
        self.channel, connected = socket.socketpair()
        self.channel.setblocking(False)
        self._thread = threading.Thread(target=lambda: asyncio.run(_drive(connected)))
        self._thread.start()

    def has_ended(self, within: float = 0.0) -> bool:
        self._thread.join(within)
        return not self._thread.is_alive()

    def stop(self, *, gently: bool) -> int:
        del gently
        self._thread.join()
        for number, kept in enumerate(self._console, 1):
            os.dup2(kept, number)
            os.close(kept)
        self._console = []
        os.environ.update(self._environment)  # an engine empties its own
        return 0

    def freeze(self) -> None:
        raise NotImplementedError

    thaw = freeze

    def close(self) -> None:
        self.channel.close()
        os.close(self.stdout)
        os.close(self.stderr)


def _captured(number: int) -> int:
    """The read end of a pipe that takes what is written to this descriptor from now on."""
    reader, writer = os.pipe()
    os.dup2(writer, number)
    os.close(writer)
    os.set_blocking(reader, False)
    return reader


async def _drive(connected: socket.socket) -> None:
    """As cmbagent.driver does, but for signals: they are the worker's."""
    channel = await Channel.over(connected)
    start, entries = await channel.start()
    run = Run(start, channel, Journal(entries, channel.keep, start["spent"]), converse=converse)
    pump = asyncio.create_task(channel.pump())
    outcome = await outcome_of(run)
    pump.cancel()
    channel.send(outcome)
    await channel.close()


def main(pairs: int, *, plot: bool) -> None:
    """Prints the seconds of both kinds, as JSON, after a pair that does not count."""
    logging.disable()
    keeper = TemplateKeeper()
    while not keeper.is_ready:
        keeper.watch()
        time.sleep(0.01)
    kinds: tuple[Any, Any] = (EngineProcess, EngineInWorker)
    seconds: tuple[list[float], list[float]] = ([], [])
    with control.listen() as nudges:
        for number in range(pairs + 1):
            for kind in (0, 1) if number % 2 else (1, 0):
                taken = _one_run(nudges, kinds[kind], plot=plot)
                seconds[kind].append(taken)
    keeper.stop()
    sys.stdout.write(json.dumps([kind[1:] for kind in seconds]) + "\n")


def _one_run(nudges: socket.socket, engine: Any, *, plot: bool) -> float:
    alice = User.objects.get(username="alice")
    session = create_session(owner=alice, mode="one-shot")
    run = services.start_run(session=session, task=task_of(LIMIT, plot=plot), by=alice)
    owner = control.owner_name(os.getpid())
    claim = services.claim_run(owner=owner, sandbox_level=sandbox.level_of_host())
    assert claim is not None
    assert claim.run_id == run.pk
    with patch.object(supervisor, "EngineProcess", engine):
        began = time.perf_counter()
        supervisor.Supervisor(claim, nudges).run()
        taken = time.perf_counter() - began
    run.refresh_from_db()
    assert run.status == "completed", (run.status, run.error_type, run.error_message)
    return taken
