"""Every line of the log says what it is about: request, user, session, run, attempt, connection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.deployment import Deployment

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]
TASK = "```python\nprint('hello')\n```"


def lines(house: Deployment) -> list[dict[str, Any]]:
    """Every line is JSON: one that is not fails the test."""
    return [json.loads(line) for line in house.log.read_text().splitlines()]


def named(house: Deployment, event: str, **about: object) -> list[dict[str, Any]]:
    found = [line for line in lines(house) if line["event"] == event]
    return [line for line in found if about.items() <= line.items()]


def test_a_runs_lines_carry_its_ids(house: Deployment) -> None:
    run = house.start_run(TASK)
    session = house.wait_for(run, "completed")["session_id"]

    about = {"session_id": session, "run_id": run, "attempt": 1}
    assert named(house, "run_claimed", **about), "the supervisor's"
    assert named(house, "engine_started", **about), "the engine's own"


def test_a_requests_lines_carry_its_ids(house: Deployment) -> None:
    run = house.start_run(TASK)
    house.wait_for(run, "completed")

    [finished, *_] = named(house, "request_finished", run_id=run)
    assert finished["request_id"]
    assert finished["user_id"]
    assert finished["session_id"]


def test_a_sockets_lines_carry_its_ids(house: Deployment) -> None:
    url = house.url.replace("http", "ws") + "/ws/"
    with connect(url, additional_headers={"Authorization": f"Bearer {house.token}"}) as socket:
        connection = json.loads(socket.recv())["connection_id"]

    assert named(house, "socket_opened", connection_id=connection)[0]["user_id"]


def test_no_token_reaches_the_log(house: Deployment) -> None:
    link = house.manage("sign_in_link", "alice").split("token=")[1].strip()
    house.client.get("/sign-in/link/", params={"token": link})

    log = house.log.read_text()
    assert link not in log
    assert house.token not in log
