"""django-q's cluster, made safe to kill.

* An idle worker does not hold the queue's read lock while it waits: killed there, it would take
  the lock with it and freeze the whole cluster (measured: always with one worker).
* Every process dies with its parent: a killed sentinel leaves no orphans that go on working.
"""

from __future__ import annotations

import ctypes
import multiprocessing.connection
import os
import signal
import time
from multiprocessing import reduction
from typing import Any

import django_q.cluster
from django_q.queues import Queue

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_LOCK_BUSY_SECONDS = 0.001
prctl = ctypes.CDLL(None, use_errno=True).prctl


class ShortLockQueue(Queue):  # type: ignore[misc]  # django-q2 is untyped
    """Waits for a task without the lock, takes it with the lock."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not block or timeout is not None:
            return super().get(block, timeout)
        while True:
            multiprocessing.connection.wait([self._reader])
            if self._rlock.acquire(block=False):
                try:
                    if not self._reader.poll(0):  # another worker was faster
                        continue
                    data = self._reader.recv_bytes()
                    self._sem.release()
                finally:
                    self._rlock.release()
                self.size.increment(-1)
                return reduction.ForkingPickler.loads(data)
            time.sleep(_LOCK_BUSY_SECONDS)


def die_with_parent() -> None:
    """The kernel kills this process when its parent dies."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def become_subreaper() -> None:
    """Orphans among our descendants become our children, so that we can end them."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def make_safe_to_kill() -> None:
    """Call before the cluster starts, in the process that becomes its parent."""
    os.register_at_fork(after_in_child=die_with_parent)
    django_q.cluster.Queue = ShortLockQueue
