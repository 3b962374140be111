"""A worker host's template process: started, watched, replaced; nothing here waits for it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import structlog
from django.conf import settings

from cmbagent.forking import READY, ROSTER_WORD, Order, build_id, packet
from execution_app import control
from execution_app.cluster import die_with_parent
from execution_app.engine_process import engine_environment
from execution_app.engine_starts import TEMPLATE_BUILD, TEMPLATE_SOCKET
from execution_app.process_tree import signal_process, tree_members

logger = structlog.get_logger(__name__)

PROGRAM = ("-m", "cmbagent.template")
DELAYS = (0.0, 1.0, 5.0, 30.0)  # before a start, by how many in a row never became ready
READY_WITHIN_SECONDS = 60.0
ASK_EVERY_SECONDS = 5.0
ANSWER_WITHIN_SECONDS = 10.0  # then it is frozen, and another takes its place
_WORD = struct.calcsize(ROSTER_WORD)


class TemplateKeeper:
    """Owns the listening socket, which outlives each template, and knows which engines live.

    While no template is ready it turns away who connects: a fresh interpreter is faster then.
    """

    def __init__(self) -> None:
        self._build = build_id()
        self._listener = control.listen_for_packets(TEMPLATE_SOCKET)
        os.environ[TEMPLATE_BUILD] = self._build  # for the workers, our children
        self._process: subprocess.Popen[bytes] | None = None
        self._roster = -1
        self.is_ready = False
        self._unready_in_a_row = 0
        self._starts_at = 0.0
        self._started_at = 0.0
        self._asked_at = 0.0
        self._question: socket.socket | None = None
        self.engines: set[int] = set()  # forked by this template or one before, and not buried

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def watch(self) -> None:
        """To be called many times a second."""
        if self._process is None:
            if time.monotonic() >= self._starts_at:
                self._start()
        else:
            self._read_roster()
            if self._process.poll() is not None:
                self._note_death(self._process.returncode)
            elif self._is_silent():
                logger.warning("template_silent", template=self._process.pid)
                self._process.kill()
        if not self.is_ready:
            self._turn_away()

    def stop(self) -> None:
        """The last: with it go engines that nobody supervises any more."""
        os.environ.pop(TEMPLATE_BUILD, None)
        self._listener.close()
        if self._process:
            self._process.kill()
            self._process.wait()
            self._forget_process()
        self.engines.clear()

    def bury_adopted(self, adopted: set[int]) -> None:
        """Engines whose template died are our children now and live on with their supervisors.
        Ended, they are reaped when nothing of their tree is left: so long the number is theirs."""
        if self._process is not None:  # who was adopted stands there: it was told before the birth
            self._read_roster()
        for pid in adopted & self.engines:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                continue
            if left := tree_members(pid):
                for member in left:
                    signal_process(member, signal.SIGKILL)
            else:
                os.waitpid(pid, 0)
                self.engines.discard(pid)

    # -- the process --------------------------------------------------------------------------
    def _start(self) -> None:
        self._roster, roster = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        kept = (self._listener.fileno(), roster)
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-s", *PROGRAM),
                    *(*map(str, kept), self._build),
                ],
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=engine_environment(Path(settings.RUNTIME_DIR)),
                pass_fds=kept,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  no threads here
            )
        finally:
            os.close(roster)
        self._started_at = time.monotonic()
        logger.debug("template_started", template=self._process.pid)

    def _note_death(self, status: int) -> None:
        self._read_roster()
        self._unready_in_a_row = 0 if self.is_ready else self._unready_in_a_row + 1
        delay = DELAYS[min(self._unready_in_a_row, len(DELAYS) - 1)]
        self._starts_at = time.monotonic() + delay
        logger.warning("template_died", status=status, was_ready=self.is_ready, again_in_s=delay)
        self._forget_process()

    def _forget_process(self) -> None:
        os.close(self._roster)
        self._process, self._roster, self.is_ready = None, -1, False
        self._drop_question()

    def _read_roster(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while words := os.read(self._roster, 1024 * _WORD):
                for (word,) in struct.iter_unpack(ROSTER_WORD, words):
                    self._note(word)

    def _note(self, word: int) -> None:
        if word == READY:
            self.is_ready = True
            self._asked_at = time.monotonic()
            logger.info(
                "template_ready", after_s=round(self._asked_at - self._started_at, 2), pid=self.pid
            )
        elif word > 0:
            self.engines.add(word)
        else:
            self.engines.discard(-word)

    # -- is it there? -------------------------------------------------------------------------
    def _is_silent(self) -> bool:
        now = time.monotonic()
        if not self.is_ready:
            return now - self._started_at > READY_WITHIN_SECONDS
        if self._question is None:
            if now - self._asked_at > ASK_EVERY_SECONDS:
                self._ask(now)
            return False
        if self._is_answered(self._question):
            self._drop_question()
            return False
        return now - self._asked_at > ANSWER_WITHIN_SECONDS

    def _ask(self, now: float) -> None:
        self._asked_at = now
        self._question = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        order: Order = {"build": self._build, "run_id": "", "work_dir": "", "environment": {}}
        with contextlib.suppress(OSError), control.short_path(TEMPLATE_SOCKET) as path:
            self._question.connect(path)
            self._question.send(packet(order))

    def _is_answered(self, question: socket.socket) -> bool:
        try:
            return bool(question.recv(4096))
        except OSError:
            return False

    def _drop_question(self) -> None:
        if self._question:
            self._question.close()
            self._question = None

    def _turn_away(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                connection.close()
