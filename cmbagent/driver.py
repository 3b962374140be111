"""Drives one run from the start message to its outcome."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import traceback

from cmbagent import __version__, wire, workflows
from cmbagent.agents import converse
from cmbagent.channel import Channel
from cmbagent.context import Run
from cmbagent.errors import EngineError, InternalError, Interrupted, Postponed
from cmbagent.journal import Journal

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def drive(connected: socket.socket) -> int:
    """The exit status of the engine; see cmbagent.engine.main."""
    stop = _Stop()
    channel = await Channel.over(connected)
    start, entries = await channel.start()
    run = Run(start, channel, Journal(entries, channel.keep, start["spent"]), converse=converse)
    run.log("info", "engine_started", mode=run.mode, version=__version__, pid=os.getpid())
    pump = asyncio.create_task(_pump(channel))
    work = asyncio.create_task(outcome_of(run))
    halt = asyncio.create_task(_halt(channel, run.journal, work))
    stop.cancels(work)
    try:
        outcome = await work
    except asyncio.CancelledError:
        if stop.signum or not channel.halted.is_set():
            return 128 + stop.signum
        outcome = {"t": "outcome", "kind": "interrupted", "reason": "halted"}
    halt.cancel()
    pump.cancel()  # first: the supervisor may close its end as soon as it has the outcome
    channel.send(outcome)
    await channel.close()
    return 0


class _Stop:
    """INT or TERM: the first ends the work and with it what it executes, the second everything."""

    def __init__(self) -> None:
        self.signum = 0
        self._work: asyncio.Task[wire.Outcome] | None = None
        for signum in _STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(signum, self._stop, signum)

    def cancels(self, work: asyncio.Task[wire.Outcome]) -> None:
        self._work = work

    def _stop(self, signum: int) -> None:
        if self.signum or self._work is None:
            os._exit(128 + signum)
        self.signum = signum
        self._work.cancel()


async def _pump(channel: Channel) -> None:
    try:
        await channel.pump()
    except Exception:  # noqa: BLE001 - a process edge: who cannot be understood cannot supervise
        traceback.print_exc()
        os._exit(1)


async def _halt(channel: Channel, journal: Journal, work: asyncio.Task[wire.Outcome]) -> None:
    """When the supervisor says so: what a model call costs is not thrown away."""
    await channel.halted.wait()
    await journal.halt()
    work.cancel()


async def outcome_of(run: Run) -> wire.Outcome:
    """Have its workflow carried out, whatever becomes of it."""
    try:
        report = await workflows.find(run.mode)(run)
    except Interrupted as interruption:
        return {"t": "outcome", "kind": "interrupted", "reason": str(interruption)}
    except Postponed as postponed:
        return {
            "t": "outcome",
            "kind": "postponed",
            "error": postponed.error.failure(),
            "retry_after_s": postponed.retry_after_s,
        }
    except EngineError as error:
        return {"t": "outcome", "kind": "failed", "error": error.failure()}
    except Exception:  # noqa: BLE001 - the engine's edge: people get a sentence, the log the rest
        run.log("error", "engine_failed", traceback=traceback.format_exc()[-16_000:])
        defect = InternalError()
        defect.key = run.journal.last_key("model")  # its answer may be what we fail at: ask anew
        return {"t": "outcome", "kind": "failed", "error": defect.failure()}
    return {
        "t": "outcome",
        "kind": "completed",
        "result": report.result,
        "summary": report.summary,
    }
