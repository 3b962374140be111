"""The database or Redis goes away for a while: runs go on, no crash is counted."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.kills import attempts_of
from tests.deployment import Deployment, wait_until
from tests.servers import PostgreSQL, Redis

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]
SLOW = "```python\nimport time\nfor n in range(100):\n    print(n)\n    time.sleep(0.2)\n```"


def went_on_untouched(house: Deployment, run: str) -> list[dict[str, Any]]:
    """The run completed in its first attempt, every line once."""
    house.wait_for(run, "completed", within=120)
    events = house.events_of(run)
    assert len(attempts_of(events)) == 1, "no second attempt"
    console = house.client.get(f"/api/runs/{run}/console").text
    assert console == "".join(f"{n}\n" for n in range(100))
    assert house.query("SELECT crashes FROM execution_app_run WHERE id = %s", run) == [(0,)]
    return events


def test_postgresql_is_away_for_ten_seconds(redis: Redis) -> None:
    with (
        PostgreSQL.running() as postgres,
        Deployment.running("production", postgres=postgres, redis=redis) as house,
    ):
        run = house.start_run(SLOW)
        house.wait_for_output(run, "3\n")

        postgres.restart(down_seconds=10)

        went_on_untouched(house, run)
        assert house.is_healthy()


def test_redis_is_killed_and_forgets_everything(postgres: PostgreSQL) -> None:
    with (
        Redis.running() as redis,
        Deployment.running("production", postgres=postgres, redis=redis) as house,
    ):
        run = house.start_run(SLOW)
        house.wait_for_output(run, "3\n")

        redis.kill()
        while_away = house.start_run("```python\nprint('asked for while Redis was away')\n```")
        time.sleep(3)
        redis.start()

        house.wait_for(while_away, "completed", within=30)
        went_on_untouched(house, run)


def signed_in(house: Deployment) -> httpx.Cookies:
    """The cookies of alice's browser."""
    with httpx.Client(base_url=house.url, follow_redirects=True) as browser:
        browser.get("/sign-in/")
        form = {
            "username": "alice",
            "password": house.env["DJANGO_SUPERUSER_PASSWORD"],
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        assert browser.post("/sign-in/", data=form).status_code == 200
        return browser.cookies


def test_pages_say_so_while_the_database_is_away(redis: Redis) -> None:
    with (
        PostgreSQL.running() as postgres,
        Deployment.running("production", postgres=postgres, redis=redis) as house,
    ):
        cookies = signed_in(house)
        postgres.stop()

        page = httpx.get(f"{house.url}/sessions/", cookies=cookies, timeout=30)
        answer = httpx.get(f"{house.url}/api/sessions", cookies=cookies, timeout=30)

        postgres.start()
        assert (page.status_code, answer.status_code) == (503, 503)
        assert page.headers["Retry-After"]
        assert answer.headers["Retry-After"]
        assert "Traceback" not in page.text + answer.text
        assert answer.json()["code"] == "unavailable"
        back = httpx.get(f"{house.url}/sessions/", cookies=cookies, timeout=30)
        assert back.status_code == 200


def test_leases_are_reaped_while_redis_is_away_and_a_run_waits(postgres: PostgreSQL) -> None:
    with (
        Redis.running() as redis,
        Deployment.running(
            "production",
            postgres=postgres,
            redis=redis,
            workers=2,
            env={"CMBAGENT_LEASE_SECONDS": "3"},
        ) as house,
    ):
        frozen = house.start_run(SLOW)
        house.wait_for_output(frozen, "3\n")
        redis.kill()
        waiting = house.start_run(SLOW)

        os.kill(house.worker_of(frozen), signal.SIGSTOP)

        wait_until(
            lambda: house.run(frozen)["status"] == "queued", within=20, what="the expired lease"
        )
        assert house.run(waiting)["status"] == "queued"


def test_many_bells_leave_nothing_open_in_a_worker(redis: Redis, postgres: PostgreSQL) -> None:
    with Deployment.running("production", postgres=postgres, redis=redis, workers=1) as house:
        [worker] = house.worker_pids()
        counts = []
        for _ in range(6):
            house.wait_for(house.start_run("```python\nprint(1)\n```"), "completed")
            time.sleep(0.5)  # completed is stored before the engine's descriptors are closed
            counts.append(len(list(Path(f"/proc/{worker}/fd").iterdir())))

        assert house.worker_pids() == [worker]
        assert counts[-1] <= counts[1], f"descriptors of the worker after each run: {counts}"
