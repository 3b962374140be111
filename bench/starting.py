"""The second `make run` of a checkout, to the first healthy answer."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time

import httpx

from bench.figures import Figure
from tests.deployment import BASE_DIR
from tests.servers import free_port

REPEATS = 5


def measure() -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        start_once(folder)  # the first makes database and key
        seconds = [start_once(folder) for _ in range(REPEATS)]
    return Figure("second start to healthy", "embedded", "s", seconds, 5)


def start_once(folder: str) -> float:
    port = free_port()
    env = os.environ | {"PORT": str(port), "CMBAGENT_DATA_DIR": folder}
    began = time.monotonic()
    make = subprocess.Popen(
        ["make", "run"], cwd=BASE_DIR, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not healthy(port):
            if time.monotonic() > began + 60:
                raise TimeoutError("make run did not become healthy")
            time.sleep(0.02)
        return time.monotonic() - began
    finally:
        make.send_signal(signal.SIGTERM)
        make.wait(30)


def healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/health/live", timeout=1).is_success
    except httpx.HTTPError:
        return False
