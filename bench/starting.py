"""The second `make run` of a checkout, and its web process killed: to the first healthy answer."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from bench.figures import Figure
from tests.deployment import BASE_DIR, command_line, descendants, wait_until
from tests.servers import free_port

REPEATS = 5


def measure() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        with make_run(folder):
            pass  # the first makes database and key
        starts, webs = [], []
        for _ in range(REPEATS):
            began = time.monotonic()
            with make_run(folder) as (make, port):
                starts.append(time.monotonic() - began)
                webs.append(web_killed(make, port))
    yield Figure("second start to healthy", "embedded", "s", starts, 5)
    yield Figure("web killed under make run to healthy again", "embedded", "s", webs, 5)


@contextmanager
def make_run(folder: str) -> Iterator[tuple[int, int]]:
    """The pid of make and the port, once it is healthy."""
    port = free_port()
    env = os.environ | {"PORT": str(port), "CMBAGENT_DATA_DIR": folder}
    quiet = subprocess.DEVNULL
    make = subprocess.Popen(["make", "run"], cwd=BASE_DIR, env=env, stdout=quiet, stderr=quiet)
    try:
        wait_until(lambda: healthy(port), within=60, what="a healthy server")
        yield make.pid, port
    finally:
        make.send_signal(signal.SIGTERM)
        make.wait(30)


def web_killed(make: int, port: int) -> float:
    """Until another web process, started by the parent, answers."""
    [web] = [pid for pid in descendants([make]) if "daphne" in command_line(pid)]
    killed = time.monotonic()
    os.kill(web, signal.SIGKILL)
    wait_until(lambda: healthy(port), within=60, what="another web process")
    return time.monotonic() - killed


def healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/health/live", timeout=1).is_success
    except httpx.HTTPError:
        return False
