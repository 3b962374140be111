"""Owns one engine process for one claim of one run: pipes in, batches out, requests obeyed."""

from __future__ import annotations

import math
import os
import selectors
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings

from cmbagent import wire
from cmbagent.sandbox import rights
from execution_app import control, services
from execution_app.collector import Collection, Collector
from execution_app.console import Console, Stream
from execution_app.endings import Ending, settle
from execution_app.engine_process import EngineProcess, engine_environment, proxies
from execution_app.group_commit import Committer
from execution_app.hiding import Secrets, Veil
from execution_app.messages import entry_of, event_of, log_for_engine, start_message
from execution_app.model_choice import models_for
from execution_app.outbox import Outbox
from execution_app.outgoing import JournalReader, Outgoing
from execution_app.patience import Patience
from execution_app.process_tree import bury_engine_before
from execution_app.services import Claim, FoundFile
from sessions_app.event_types import FilesUpdated, encoded_size

logger = structlog.get_logger(__name__)

READ_BYTES = 256 * 1024
OUTCOME_TO_EXIT_SECONDS = 5.0
HALT_SECONDS = 10.0  # what a model call in flight gets to reach its entry
STOPPED_COLLECTION_SECONDS = 3.0
FILES_IN_EVENT_BYTES = 16 * 1024


class Stop(Enum):
    """Why the supervisor ends an engine that would go on."""

    CANCEL = "cancel"
    PAUSE = "pause"
    DRAIN = "drain"


class Supervisor:
    """One selector loop over the engine's pipes and channel, nudges and the timer. Raises
    ConfigInvalid when the run wants a model that nobody connected, BuildChanged when no engine of
    our build can be started."""

    def __init__(self, claim: Claim, nudges: socket.socket) -> None:
        self._models = models_for(claim.config)
        self._secrets = Secrets(self._models)
        self._veils = {"stdout": Veil(self._secrets), "stderr": Veil(self._secrets)}
        self._claim = claim
        self._nudges = nudges
        self._began = time.monotonic()
        self._work_dir = services.work_dir(claim.session_id)
        host, group = claim.before
        if host == settings.HOST_NAME and group is not None:
            bury_engine_before(str(claim.run_id), group)
        self._collector = _collector(claim, self._work_dir)
        self._messages = wire.Lines()
        self._collecting: Future[Collection] | None = None
        self._stop: Stop | None = None
        self._stop_at = math.inf  # at the latest
        self._outcome: wire.Outcome | None = None
        self._engine_gone = False
        self._asked_by = ""
        self._draining = False
        os.close(rights.open_folder(self._work_dir))  # code may have closed it, to us too
        with ExitStack() as owned:  # what is given back in the opposite order, whatever happens
            environment = engine_environment(self._work_dir) | proxies()
            self._engine = EngineProcess(str(claim.run_id), self._work_dir, environment)
            owned.callback(self._engine.close)
            self._wake, self._waker = os.pipe()
            owned.callback(os.close, self._wake)
            owned.callback(os.close, self._waker)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="collector")
            owned.callback(self._thread.shutdown)
            self._selector = owned.enter_context(selectors.DefaultSelector())
            owned.callback(self._engine.stop, gently=False)
            self._patience = Patience(self._engine, self._is_asked_to_drain)
            console = Console(claim.console_lines + 1)
            committer = Committer()
            owned.callback(committer.close)
            self._outbox = Outbox(claim, console, self._patience, self._acknowledge, committer)
            self._outgoing = Outgoing(self._engine.channel.send)
            self._owned = owned.pop_all()

    # -- the loop -----------------------------------------------------------------------------
    def run(self) -> None:
        try:
            self._begin()
            while not (self._outcome or self._engine_gone or time.monotonic() >= self._stop_at):
                self._turn()
            self._end()
        finally:
            self._owned.close()

    def _begin(self) -> None:
        self._patience(services.record_process_group, self._claim, self._engine.pid)
        engine = self._engine
        for source, handler in (
            (engine.stdout, lambda: self._read_output("stdout", engine.stdout)),
            (engine.stderr, lambda: self._read_output("stderr", engine.stderr)),
            (engine.channel, self._use_channel),
            (self._nudges, self._read_nudges),
            (self._wake, self._finish_collecting),
        ):
            self._selector.register(source, selectors.EVENT_READ, handler)
        self._tell_start()

    def _tell_start(self) -> None:
        journal = JournalReader(self._claim.run_id)
        self._outgoing.add(start_message(self._claim, self._work_dir, self._models))
        self._outgoing.add_each(iter(lambda: self._patience(journal.next), None))
        self._write_channel()

    def _turn(self) -> None:
        next_due = min(self._outbox.next_due(), self._stop_at)
        for key, _ in self._selector.select(max(0.0, next_due - time.monotonic())):
            key.data()
        self._flush_if_due()
        if self._outbox.is_renewal_due():
            self._look()

    def _flush_if_due(self) -> None:
        if self._outbox.is_due():
            self._outbox.flush()

    def _look(self) -> None:
        """Renew the lease and obey what people asked meanwhile."""
        requests = self._patience(services.renew_lease, self._claim)
        self._outbox.renewed()
        self._asked_by = requests.by
        if requests.cancel:
            self._stop, self._stop_at = Stop.CANCEL, time.monotonic()
        elif requests.pause:
            self._halt(Stop.PAUSE)
        elif self._draining:
            self._halt(Stop.DRAIN)

    def _halt(self, why: Stop) -> None:
        """What goes on later from its journal may first bring home what a model is answering."""
        if self._stop is None:
            self._stop_at = time.monotonic() + HALT_SECONDS
            self._send({"t": "halt"})
        self._stop = why

    # -- from the engine ----------------------------------------------------------------------
    def _read_output(self, stream: Stream, descriptor: int) -> bool:
        """One read; False when there is nothing (more) now."""
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._outbox.add_output(stream, self._veils[stream].feed(data))
            return True
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)
        self._outbox.add_output(stream, self._veils[stream].rest())
        self._outbox.close_stream(stream)
        return False

    def _drain_output(self) -> None:
        """What was printed before a message is stored before it."""
        for stream, descriptor in (
            ("stdout", self._engine.stdout),
            ("stderr", self._engine.stderr),
        ):
            while self._read_output(stream, descriptor):  # type: ignore[arg-type]  # Stream
                if self._outbox.is_full():
                    self._outbox.flush()

    def _read_channel(self) -> bool:
        """One read; False when there is nothing (more) now."""
        try:
            data = self._engine.channel.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._engine_gone = True
            return False
        self._drain_output()
        try:
            for line in self._messages.feed(data):
                self._take(wire.decode(self._secrets.hide(line)))
        except ValueError as error:
            logger.exception("engine_not_understood", error=str(error))
            self._engine_gone = True
        return not self._engine_gone

    def _take(self, message: dict[str, Any]) -> None:
        match message.get("t"):
            case "event":
                self._outbox.add_event(event_of(message))
            case "entry":
                self._outbox.add_entry(entry_of(message))
            case "collect" if self._collecting is None:
                self._collecting = self._thread.submit(self._collect)
            case "log":
                log_for_engine(message)
            case "outcome":
                self._outcome = message  # type: ignore[assignment]  # its shape is checked in endings
            case _:
                raise wire.NotAMessage("a message of no kind that is known, or not now")

    # -- files --------------------------------------------------------------------------------
    def _collect(self) -> Collection:
        try:
            return self._collector.collect()
        finally:
            os.write(self._waker, b"!")

    def _finish_collecting(self) -> None:
        os.read(self._wake, 1)
        if self._collecting is None:
            return
        collection = self._collecting.result()
        self._collecting = None
        self._record_files(collection)
        answer: wire.Collected = {
            "t": "collected",
            "files": [file.shown() for file in collection.files],  # type: ignore[misc]  # same keys
            "skipped": len(collection.skipped),
        }
        self._send(answer)

    def _see_collection_through(self) -> None:
        """Files of gigabytes take longer than a lease: it is renewed meanwhile."""
        while self._collecting is not None:
            wait([self._collecting], timeout=1.0)
            if self._outbox.is_renewal_due():
                self._patience(services.renew_lease, self._claim)
                self._outbox.renewed()
            if self._collecting.done():
                self._finish_collecting()

    def _record_files(self, collection: Collection) -> None:
        """Bounded events: a run may have made a thousand files."""
        self._outbox.flush()
        skipped = collection.skipped
        for part in _parts(collection.files) or [[]] * bool(skipped):
            shown = [file.shown() for file in part]
            self._outbox.add_event(FilesUpdated(files=shown, skipped=skipped))
            self._outbox.add_files(part)
            self._outbox.flush()
            skipped = []

    # -- from people --------------------------------------------------------------------------
    def _read_nudges(self) -> None:
        try:
            while True:
                self._draining |= self._nudges.recv(64) == control.DRAIN
                self._outbox.look_soon()
        except BlockingIOError:
            return

    def _is_asked_to_drain(self) -> bool:
        """For the one who waits for the database: it cannot be told by the row."""
        return self._draining or control.is_draining()

    # -- the end ------------------------------------------------------------------------------
    def _end(self) -> None:
        if self._outcome:
            self._engine.has_ended(OUTCOME_TO_EXIT_SECONDS)
        processes = self._engine.stop(gently=self._stop is not None)
        while not self._engine_gone and self._read_channel():  # what it finished and still told
            self._flush_if_due()
        self._drain_output()
        if self._stop:
            self._collector.finish_within(STOPPED_COLLECTION_SECONDS)
        if self._collecting is None and (self._stop or not self._outcome):
            self._collecting = self._thread.submit(self._collect)
        self._see_collection_through()
        self._outbox.flush(everything=True)
        ending = Ending(
            stop=self._stop.value if self._stop else "",
            by=self._asked_by,
            processes=processes,
            outcome=self._outcome,
            exit_status=self._engine.exit_status,
            seconds=time.monotonic() - self._began,
        )
        self._patience(settle, self._claim, ending)

    # -- to the engine ------------------------------------------------------------------------
    def _acknowledge(self, key: str) -> None:
        """From now on nobody makes this call again."""
        self._send({"t": "stored", "key": key})

    def _send(self, message: wire.SupervisorMessage) -> None:
        """Never blocks: what an engine does not read now is written when it does."""
        self._outgoing.add(message)
        self._write_channel()

    def _write_channel(self) -> None:
        try:
            self._outgoing.write()
        except OSError:  # it ended; what it said before is still read
            self._outgoing.drop()
        self._selector.modify(
            self._engine.channel,
            selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0),
            self._use_channel,
        )

    def _use_channel(self) -> None:
        if self._outgoing:
            self._write_channel()
        self._read_channel()


def _collector(claim: Claim, work_dir: Path) -> Collector:
    baseline = services.session_folder(claim.session_id) / "baselines" / f"{claim.number}.json"
    return Collector(work_dir, baseline)


def _parts(files: list[FoundFile]) -> list[list[FoundFile]]:
    """Cut so that the names of each part fit an event."""
    parts: list[list[FoundFile]] = []
    room = 0
    for file in files:
        size = encoded_size(file.shown())
        if size > room:
            parts.append([])
            room = FILES_IN_EVENT_BYTES
        parts[-1].append(file)
        room -= size
    return parts
