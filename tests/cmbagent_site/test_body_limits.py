"""A body that is too large costs the web process no memory, whoever sends it."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse

import httpx
import pytest

from tests.cmbagent_site.test_backpressure import resident_megabytes
from tests.deployment import Deployment

pytestmark = pytest.mark.acceptance

MB = 2**20
UPLOAD = f"/api/sessions/{uuid.uuid4()}/files"
SOMEBODY = "Authorization: Bearer nobody-knows\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def house() -> Iterator[Deployment]:
    deployment = Deployment("embedded")
    try:
        deployment.prepare()
        deployment.start_web()
        yield deployment
    finally:
        deployment.remove()


def _length(size: int) -> str:
    return f"Content-Length: {size}\r\n"


def _connected(house: Deployment, path: str, headers: str) -> socket.socket:
    """A connection on which the headers of a POST went out, and no body."""
    client = socket.create_connection(("127.0.0.1", house.port), timeout=20)
    client.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
    return client


def _answer(client: socket.socket) -> tuple[int, str]:
    """Status and body; every refusal says that it closes the connection."""
    answer = HTTPResponse(client)
    answer.begin()
    assert answer.will_close
    return answer.status, answer.read().decode()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/sessions", _length(10 * MB + 1)),
        ("/api/sessions", _length(300 * MB) + SOMEBODY),
        ("/api/sessions", _length(300 * MB) + "Expect: 100-continue\r\n"),
        (UPLOAD, _length(10 * MB + 1)),
        (UPLOAD, _length(201 * MB) + SOMEBODY),
    ],
)
def test_headers_are_enough_to_refuse(house: Deployment, path: str, headers: str) -> None:
    with _connected(house, path, headers) as client:
        status, body = _answer(client)
    assert status == 413
    assert json.loads(body)["code"] == "too_large"


def test_a_page_says_it_in_a_sentence(house: Deployment) -> None:
    with _connected(house, "/sign-in/", _length(300 * MB)) as client:
        assert _answer(client) == (413, "The body is larger than 10 MB.")
        assert client.recv(1) == b""  # and closes


def test_a_file_of_somebody_may_be_larger(house: Deployment) -> None:
    """Up to its answer by Django: nobody knows this token."""
    body = b"x" * (11 * MB)
    answer = httpx.post(house.url + UPLOAD, content=body, headers={"Authorization": "Bearer x"})
    assert answer.status_code == 401


def test_what_is_within_the_bound_is_served(house: Deployment) -> None:
    answer = house.client.post("/api/sessions", json={"mode": "one-shot", "name": "x" * 100})
    assert answer.status_code == 201


@pytest.mark.parametrize("headers", [_length(300 * MB), CHUNKED])
def test_nothing_of_it_is_kept(house: Deployment, headers: str) -> None:
    web = house.processes["web"].pid
    before = highest = resident_megabytes(web)
    part = b"100000\r\n" + b"x" * MB + b"\r\n"  # as a chunk; without chunks just bytes
    with _connected(house, "/api/sessions", headers) as client:
        with suppress(ConnectionError):  # by then we were not listened to any more
            for _ in range(300):
                client.sendall(part)
                highest = max(highest, resident_megabytes(web))
        highest = max(highest, resident_megabytes(web))
        assert client.recv(12) == b"HTTP/1.1 413"
    assert highest < before + 60
