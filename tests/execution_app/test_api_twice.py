"""The same POST many times at once, at two web processes, on both databases: one effect."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest

from tests.deployment import Deployment, wait_until
from tests.servers import free_port

pytestmark = pytest.mark.acceptance

AT_ONCE = 8
ROUNDS = 3
TASK = {"task": "```python\nprint(1)\n```"}
Ask = Callable[[httpx.Client, int], httpx.Response]


@pytest.fixture(scope="module", params=["embedded", "production"])
def addresses(request: pytest.FixtureRequest) -> Iterator[tuple[Deployment, list[str]]]:
    """A deployment with two web processes and no worker: runs stay queued."""
    servers = {}
    if request.param == "production":
        servers = {name: request.getfixturevalue(name) for name in ("postgres", "redis")}
    house = Deployment(request.param, **servers)
    with contextlib.ExitStack() as stack:
        stack.callback(house.remove)
        house.prepare()
        house.start_web()
        yield house, [house.url, _second_web(house)]


def _second_web(house: Deployment) -> str:
    port = free_port()
    endpoint = f"tcp:port={port}:interface=127.0.0.1:backlog=8192"
    house.start("web2", "-m", "daphne", "-v", "0", "-e", endpoint, "cmbagent_site.asgi:application")
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{url}/api/health/live", timeout=2).status_code == 200
        return False

    wait_until(answers, within=60, what="a second web process")
    return url


@pytest.fixture
def at_once(addresses: tuple[Deployment, list[str]]) -> Iterator[Callable[[Ask], list[Any]]]:
    """Sends one request per thread, all in the same moment, half of them to each process."""
    house, urls = addresses
    headers = {"Authorization": f"Bearer {house.token}"}
    barrier = Barrier(AT_ONCE)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60))
            for url in urls * (AT_ONCE // 2)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))

        def send(ask: Ask) -> list[httpx.Response]:
            def one(number: int) -> httpx.Response:
                clients[number].get("/api/health/live")  # the connection is open before we begin
                barrier.wait(30)
                return ask(clients[number], number)

            return list(pool.map(one, range(AT_ONCE)))

        yield send


@pytest.fixture
def client(addresses: tuple[Deployment, list[str]]) -> Iterator[httpx.Client]:
    house, urls = addresses
    headers = {"Authorization": f"Bearer {house.token}"}
    with httpx.Client(base_url=urls[0], headers=headers, timeout=60) as made:
        yield made


def _new_session(client: httpx.Client) -> str:
    made = client.post("/api/sessions", json={"mode": "one-shot"})
    assert made.status_code == 201, made.text
    return f"/api/sessions/{made.json()['session_id']}"


def _starting(session: str, headers: dict[str, str] | None = None) -> Ask:
    return lambda client, _: client.post(f"{session}/runs", json=TASK, headers=headers)


def _statuses(responses: list[httpx.Response]) -> list[int]:
    return sorted(response.status_code for response in responses)


def test_without_a_key_one_wins(client: httpx.Client, at_once: Callable[[Ask], Any]) -> None:
    for _ in range(ROUNDS):
        session = _new_session(client)
        responses = at_once(_starting(session))
        assert _statuses(responses) == [202] + [409] * (AT_ONCE - 1)
        losers = [r.json()["code"] for r in responses if r.status_code == 409]
        assert set(losers) == {"session_busy"}
        assert client.get(f"{session}/runs").json()["total_runs"] == 1


def test_with_one_key_all_get_the_first_answer(
    client: httpx.Client, at_once: Callable[[Ask], Any]
) -> None:
    for _ in range(ROUNDS):
        session = _new_session(client)
        key = {"Idempotency-Key": os.urandom(8).hex()}
        responses = at_once(_starting(session, key))
        assert _statuses(responses) == [202] * AT_ONCE
        assert len({response.text for response in responses}) == 1
        assert client.get(f"{session}/runs").json()["total_runs"] == 1
        events = client.get(f"{session}/events").json()["events"]
        assert [e["event_type"] for e in events] == [
            "session_created",
            "user_message",
            "run_queued",
        ]


def test_with_one_key_and_many_bodies_one_wins(
    client: httpx.Client, at_once: Callable[[Ask], Any]
) -> None:
    key = {"Idempotency-Key": os.urandom(8).hex()}
    responses = at_once(
        lambda c, n: c.post(
            "/api/sessions", json={"mode": "one-shot", "name": f"{key}{n}"}, headers=key
        )
    )
    assert _statuses(responses) == [201] + [422] * (AT_ONCE - 1)
    found = client.get("/api/sessions", params={"q": key["Idempotency-Key"]}).json()
    assert found["total"] == 1


def test_an_upload_with_one_key(client: httpx.Client, at_once: Callable[[Ask], Any]) -> None:
    session = _new_session(client)
    key = {"Idempotency-Key": os.urandom(8).hex()}
    data = b"x" * 1_000_000
    responses = at_once(
        lambda c, _: c.post(f"{session}/files", files={"file": ("a.bin", data)}, headers=key)
    )
    assert _statuses(responses) == [201] * AT_ONCE
    assert len({response.text for response in responses}) == 1
    events = client.get(f"{session}/events").json()["events"]
    assert [e["event_type"] for e in events] == ["session_created", "files_updated"]


def test_the_console_and_files_come_whole_from_the_real_server(
    addresses: tuple[Deployment, list[str]], client: httpx.Client
) -> None:
    session = _new_session(client)
    run_id = client.post(f"{session}/runs", json=TASK).json()["run_id"]
    house, _ = addresses
    house.python(FILL.replace("RUN_ID", run_id))
    console = client.get(f"/api/runs/{run_id}/console")
    assert console.text == "".join(f"{n} {'x' * 90}\n" for n in range(20_000))
    file = client.get(f"/api/runs/{run_id}/files/big.bin")
    assert (len(file.content), file.headers["content-length"]) == (3_000_000, "3000000")
    head = client.head(f"/api/runs/{run_id}/files/big.bin")
    assert (head.status_code, head.headers["content-length"]) == (200, "3000000")


FILL = """
from execution_app.models import Run
from execution_app.services import record_artifacts, store_bytes
from sessions_app.event_types import Output
from sessions_app.services import append_events
run = Run.objects.get(pk="RUN_ID")
lines = [f"{n} {'x' * 90}\\n" for n in range(20_000)]
texts = ["".join(lines[n : n + 200]) for n in range(0, 20_000, 200)]
append_events(run.session_id, [Output(stream="stdout", line=1, text=t) for t in texts], run_id=run.pk)
record_artifacts(run.session_id, run.pk, [store_bytes("big.bin", b"b" * 3_000_000)])
"""
