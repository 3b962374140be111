"""The database or Redis goes away for a while: runs go on, no crash is counted."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.acceptance.kills import attempts_of
from tests.deployment import Deployment
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
