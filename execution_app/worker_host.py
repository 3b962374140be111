"""The parent of a host's workers: starts template, clusters and committer, watches over
supervisors, reaps, drains.

Nothing that must happen stands in the run queue: every worker may be busy for hours, and an
expired lease is still taken back within seconds, from here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone
from django_q.brokers import get_broker
from redis.exceptions import RedisError

from execution_app import control, sandbox
from execution_app.bells import ring_bell, schedule_chores
from execution_app.cluster import become_subreaper, die_with_parent
from execution_app.process_tree import children_of
from execution_app.services import (
    expire_sessions,
    reap_runs,
    release_dead_supervisor,
    waiting_for_a_worker,
)
from execution_app.template_keeper import TemplateKeeper
from sessions_app.models import HEARTBEAT_SECONDS, Server
from sessions_app.services import (
    beat,
    drop_dead_servers,
    mark_draining,
    register_server,
    retire_server,
)

logger = structlog.get_logger(__name__)

WATCH_SECONDS = 0.05
CALM_SECONDS = 0.5  # after a pass that failed
DRAIN_SECONDS = 15.0
COMMITTER = "committer"
CHILDREN = {
    "runs": ("qcluster", "-n", "runs"),
    "chores": ("qcluster", "-n", "chores"),
    COMMITTER: ("commit_groups",),
}


class AlreadyRunning(SystemExit):
    """Another run_workers uses this data folder."""


class WorkerHost:
    """One per host and data folder; holds the lock of the runtime folder while it lives."""

    def __init__(self) -> None:
        self._stopping = False
        self._children: dict[str, subprocess.Popen[bytes]] = {}  # by name
        self._template: TemplateKeeper | None = None
        self._server: Server | None = None
        self._report: dict[str, int | str | None] = {}
        self._reached_since: float | None = None  # the database, without a failure since
        self._next_pass = 0.0
        self._next_beat = 0.0

    def run(self) -> None:
        with _lock():
            self._begin()
            while not self._stopping:
                time.sleep(WATCH_SECONDS)
                self._guarded_pass()
            self._drain()

    def _begin(self) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._ask_to_stop)
        become_subreaper()
        control.stop_draining()
        self._report = sandbox.probe_host()
        logger.info("worker_host_started", workers=settings.WORKERS, **self._report)
        self._quietly(schedule_chores)
        self._template = TemplateKeeper()  # before the workers, who are told of it
        self._template.watch()
        for name in CHILDREN:
            if name != COMMITTER or settings.GROUP_COMMIT:
                self._start(name)

    def _ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    # -- the watch ----------------------------------------------------------------------------
    def _guarded_pass(self) -> None:
        """An exception in a watchdog's loop kills the watchdog: none leaves this."""
        try:
            self._watch()
            if time.monotonic() >= self._next_pass:
                self._next_pass = time.monotonic() + settings.REAP_SECONDS
                self._reap()
        except DatabaseError as error:
            self._reached_since = None
            logger.warning("watch_failed", error=f"{type(error).__name__}: {error}"[:300])
            connection.close()
            time.sleep(CALM_SECONDS)
        except Exception:
            logger.exception("watch_failed")
            time.sleep(CALM_SECONDS)

    def _watch(self) -> None:
        if self._template is not None:
            self._template.watch()
        for name, child in list(self._children.items()):
            if child.poll() is not None:
                if name == COMMITTER:
                    logger.warning("committer_died", status=child.returncode)
                else:
                    logger.warning("cluster_died", cluster=name, status=child.returncode)
                self._start(name)
        self._end_strays()
        for pid in control.supervisor_pids():
            if not control.is_supervising(pid):
                self._bury(pid)

    def _bury(self, pid: int) -> None:
        """Its engine died with it, by the kernel; its run goes on at once."""
        released = release_dead_supervisor(pid)
        control.remove_socket(pid)
        logger.warning("supervisor_died", supervisor=pid, runs=released)

    def _end_strays(self) -> None:
        """We are a subreaper: what killed workers leave behind comes to us and ends here. Not the
        engines of a killed template: their supervisors live."""
        children = children_of(os.getpid()) - {child.pid for child in self._children.values()}
        if self._template is not None:
            self._template.bury_adopted(children)
            children -= {self._template.pid, *self._template.engines}
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    # -- every second -------------------------------------------------------------------------
    def _reap(self) -> None:
        now = time.monotonic()
        if now >= self._next_beat:
            self._beat()
            self._next_beat = now + HEARTBEAT_SECONDS
        if self._may_trust_expiry(now):
            reap_runs()
            expire_sessions(now=timezone.now())
        try:
            self._ring_for_idle_workers()
        except (RedisError, OSError) as error:  # the broker is away: nothing else waits for it
            logger.warning("bell_lost", error=f"{type(error).__name__}: {error}"[:300])

    def _may_trust_expiry(self, now: float) -> bool:
        """After the database was away, its holders had no chance to renew: give them a lease."""
        if self._reached_since is None:
            self._reached_since = now
        return now - self._reached_since >= settings.LEASE_SECONDS

    def _beat(self) -> None:
        if self._server is None or not beat(self._server.pk):
            self._server = register_server(
                Server.Kind.WORKER,
                sandbox_level=self._report["level"],  # type: ignore[arg-type]  # int or None
                sandbox_report=str(self._report["report"]),
            )
        drop_dead_servers()

    def _ring_for_idle_workers(self) -> None:
        """Bells may be lost with the process that had taken them; ring again while work waits."""
        idle = settings.WORKERS - len(control.supervisor_pids())
        waiting = waiting_for_a_worker() if idle > 0 else 0
        if waiting and get_broker().queue_size() == 0:
            for _ in range(min(idle, waiting)):
                ring_bell()

    # -- children -----------------------------------------------------------------------------
    def _start(self, name: str) -> None:
        self._children[name] = subprocess.Popen(
            [sys.executable, str(settings.BASE_DIR / "manage.py"), *CHILDREN[name]],
            env=os.environ | {"Q_CLUSTER_NAME": name},
            start_new_session=True,  # a terminal's Ctrl-C reaches us alone
            preexec_fn=die_with_parent,  # noqa: PLW1509  no threads here
        )

    # -- the end ------------------------------------------------------------------------------
    def _drain(self) -> None:
        """No new work, every run back in the queue, engines gone, then the clusters end."""
        logger.info("draining")
        control.start_draining()
        if self._server is not None:
            self._quietly(lambda: mark_draining(self._server.pk))  # type: ignore[union-attr]
        deadline = time.monotonic() + DRAIN_SECONDS
        while control.supervisor_pids() and time.monotonic() < deadline:
            control.drain_supervisors()
            self._quietly(self._watch)
            time.sleep(WATCH_SECONDS)
        self._end_children()
        for pid in control.supervisor_pids():
            self._quietly(lambda pid=pid: self._bury(pid))  # type: ignore[misc]  # bound now
        if self._server is not None:
            self._quietly(lambda: retire_server(self._server.pk))  # type: ignore[union-attr]
        logger.info("drained")

    def _end_children(self) -> None:
        for child in self._children.values():
            child.terminate()  # its main process only: a group signal leaves it hanging
        deadline = time.monotonic() + 3
        for child in self._children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
            if child.poll() is None:
                child.kill()  # and with it all its processes
                child.wait(5)
        self._children.clear()
        if self._template is not None:
            self._template.stop()
        self._end_strays()

    def _quietly(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (DatabaseError, RedisError, OSError) as error:
            logger.warning("step_failed", error=f"{type(error).__name__}: {error}"[:300])
            connection.close()


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    path = control.runtime_dir() / "run_workers.lock"
    with Path(path).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"run_workers already runs with {settings.DATA_DIR}: stop it, or set another "
                "CMBAGENT_DATA_DIR."
            ) from None
        yield
