"""The socket stays and the stream is exact, whatever goes away: layer, database, web process."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.deployment import Shape, wait_until
from tests.sessions_app.socket_house import Client, WebHouse

pytestmark = pytest.mark.acceptance
STOPPED_HEART = """
from datetime import timedelta
from django.db.models.functions import Now
from sessions_app.models import Server
Server.objects.update(last_heartbeat=Now() - timedelta(minutes=1))
"""
LIVING_CONNECTIONS = """
from sessions_app.models import Connection
print(Connection.objects.alive().count())
"""
ODD_HINTS = """
import random
from sessions_app import hints
send, chance = hints.HintSender.send, random.Random(4)

def odd(self, *args):
    for _ in range(chance.choice([0, 0, 1, 2, 3])):
        send(self, *args)

hints.HintSender.send = odd
"""


@pytest.fixture(scope="module", params=["embedded", "production"])
def house(request: pytest.FixtureRequest) -> Iterator[WebHouse]:
    shape: Shape = request.param
    with WebHouse.open(shape) as running:
        yield running


@pytest.fixture(scope="module")
def production() -> Iterator[WebHouse]:
    with WebHouse.open("production") as running:
        yield running


def all_lines(house: WebHouse, session: str, until: int) -> list[tuple[int, str]]:
    with Client.open(house, f"/ws/sessions/{session}/") as client:
        return client.follow(session, until=until)


def delay_of_a_line(house: WebHouse, session: str, client: Client) -> float:
    started = time.monotonic()
    house.write(session, 1)
    client.wait_for("events")
    return time.monotonic() - started


def test_a_hint_is_faster_than_the_tick(house: WebHouse) -> None:
    session = house.new_session()
    with Client.open(house, f"/ws/sessions/{session}/") as client:
        client.wait_for("live")
        delays = sorted(delay_of_a_line(house, session, client) for _ in range(9))
    assert delays[4] < 0.3, delays


def test_with_every_hint_lost_the_stream_is_exact_only_later() -> None:
    with WebHouse.open("embedded") as house:
        session = house.new_session()
        with ThreadPoolExecutor() as pool, house.writing(session, 300, pause=0.1):
            reader = pool.submit(all_lines, house, session, 301)
            folder = house.folder / "data" / "run"
            for ear in wait_until(lambda: [*folder.glob("layer-*")], within=10, what="an ear"):
                ear.unlink()
            lines = reader.result(60)
        assert lines == house.logged_lines(session)


def test_hints_lost_and_doubled_change_nothing(house: WebHouse) -> None:
    session = house.new_session()
    house.hand(1).start(ODD_HINTS)
    house.hand(1).finish()

    def follow(fmt: str) -> list[tuple[int, str]]:
        with Client.open(house) as client:
            client.send(type="subscribe", id=1, session=session, after=0, format=fmt)
            return client.follow(session, until=401)

    with ThreadPoolExecutor() as pool, house.writing(session, 400, pause=0.1):
        readers = [pool.submit(follow, fmt) for fmt in ("json", "html", "json")]
        seen = [reader.result(60) for reader in readers]
    assert seen == [house.logged_lines(session)] * 3
    house.close_hands()


def test_redis_killed_and_back_again(production: WebHouse) -> None:
    house = production
    assert house.redis is not None
    session = house.new_session()
    with ThreadPoolExecutor() as pool, house.writing(session, 400, pause=0.2):
        reader = pool.submit(all_lines, house, session, 401)
        time.sleep(0.5)
        house.redis.kill()
        with Client.open(house, f"/ws/sessions/{session}/") as late:  # comes in without a layer
            assert late.wait_for("live", within=30)
        house.redis.start()
        lines = reader.result(90)
    assert lines == house.logged_lines(session)
    with Client.open(house, f"/ws/sessions/{session}/?after=401") as client:
        client.wait_for("live")
        time.sleep(2.5)  # a sender is silent for two seconds after a failure
        delays = sorted(delay_of_a_line(house, session, client) for _ in range(9))
    assert delays[4] < 0.3, delays


def test_a_redis_that_hangs_delays_nobody_for_long(production: WebHouse) -> None:
    house = production
    assert house.redis is not None
    session = house.new_session()
    house.redis.freeze()
    try:
        with Client.open(house, f"/ws/sessions/{session}/") as client:
            assert client.wait_for("live", within=20)["head"] == 1
            house.write(session, 5)
            assert client.follow(session, after=1, until=6)
    finally:
        house.redis.thaw()


def test_postgresql_restarts_and_no_socket_notices(production: WebHouse) -> None:
    house = production
    assert house.postgres is not None
    session = house.new_session()
    with (
        Client.open(house, f"/ws/sessions/{session}/") as client,
        Client.open(house) as page,
        Client.open(house) as leaving,
    ):
        page.send(type="subscribe", id=1, session=session, after=0, format="html")
        for each in (client, page):
            each.wait_for("live")
        leaving.frame()
        rows = house.connection_rows()
        house.postgres.stop()
        leaving.connection.close()
        with ThreadPoolExecutor() as pool:
            coming = pool.submit(all_lines, house, session, 21)  # comes in during the outage
            client.send(type="ping", id=1)
            client.wait_for("pong")
            time.sleep(3)
            house.postgres.start()
            house.close_hands()
            house.write(session, 20)
            lines = client.follow(session, after=1, until=21)
            assert page.follow(session, after=1, until=21) == lines
            assert coming.result(60) == house.logged_lines(session)
    assert lines == house.logged_lines(session)[1:]
    wait_until(lambda: house.connection_rows() < rows, within=15, what="the row's removal")


def test_sigterm_says_that_it_restarts_and_leaves_no_row(house: WebHouse) -> None:
    with Client.open(house) as first, Client.open(house) as second:
        for client in (first, second):
            client.frame()
        assert house.connection_rows() >= 2
        web = house.processes["web"]
        web.send_signal(signal.SIGTERM)
        assert {first.close_code(), second.close_code()} == {1012}
        assert web.wait(15) == 0
    assert house.connection_rows() == 0
    house.start_web()


def test_rows_of_a_killed_web_process_no_longer_count(house: WebHouse) -> None:
    with Client.open(house) as client:
        client.frame()
        house.kill("web", signal.SIGKILL)
    assert house.connection_rows() == 1
    house.do(STOPPED_HEART)
    assert house.do(LIVING_CONNECTIONS) == "0"
    house.start_web()
    session = house.new_session()
    with Client.open(house, f"/ws/sessions/{session}/") as client:
        client.wait_for("live")
        assert delay_of_a_line(house, session, client) < 5
