"""A slow reader of something large costs the web process no memory."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deployment import Deployment

pytestmark = pytest.mark.acceptance

SIZE = 300 * 2**20
FILL = f"""
import sys
from django.contrib.auth.models import User
from execution_app.models import Artifact, Run
from execution_app.services import artifact_file
from sessions_app.services import create_session
session = create_session(owner=User.objects.get(), mode="one-shot")
run = Run.objects.create(session=session, number=1, task="x")
artifact = Artifact.objects.create(
    session=session, run=run, path="big", kind="other", mime="x/y", size={SIZE}, sha256="ab" * 32
)
artifact_file(artifact).parent.mkdir(parents=True)
with artifact_file(artifact).open("wb") as file:
    file.truncate({SIZE})
sys.stdout.write(str(run.pk))
"""


@pytest.fixture(scope="module")
def house() -> Iterator[Deployment]:
    deployment = Deployment("embedded")
    try:
        deployment.prepare()
        deployment.start_web()
        yield deployment
    finally:
        deployment.remove()


def resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def test_the_process_waits_for_its_reader(house: Deployment) -> None:
    run_id = house.python(FILL)
    web = house.processes["web"].pid
    before = resident_megabytes(web)
    path = f"/api/runs/{run_id}/files/big"
    bearer = {"Authorization": f"Bearer {house.token}"}
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {house.token}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", house.port)) as reader:
        reader.sendall(request.encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
        highest = 0.0
        for _ in range(20):  # 2 s: unbounded, it would all be in memory by then
            time.sleep(0.1)
            highest = max(highest, resident_megabytes(web))
    assert highest < before + 60
    with httpx.stream("GET", house.url + path, headers=bearer, timeout=60) as response:
        assert sum(len(chunk) for chunk in response.iter_bytes()) == SIZE
