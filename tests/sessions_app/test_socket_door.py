"""Who gets in, from where, how many; and what a frame may be. One real web process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.deployment import wait_until
from tests.sessions_app.socket_house import Client, WebHouse

pytestmark = pytest.mark.acceptance
LIMIT = 5
COOKIE = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
user = User.objects.get(username="alice")
login = import_module(settings.SESSION_ENGINE).SessionStore()
login[SESSION_KEY], login[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
login[HASH_SESSION_KEY] = user.get_session_auth_hash()
login.save()
print(f"{settings.SESSION_COOKIE_NAME}={login.session_key}")
"""
CUT = """
from sessions_app.hints import close_socket
close_socket("{}", 4401)
"""


SIGN_OUT = """
from django.test import Client
browser = Client(SERVER_NAME="127.0.0.1")
browser.cookies["{}"] = "{}"
assert browser.post("/sign-out/").status_code == 302
"""


@pytest.fixture(scope="module")
def house() -> Iterator[WebHouse]:
    with WebHouse.open("embedded", MAX_CONNECTIONS=str(LIMIT)) as running:
        yield running


@pytest.fixture(scope="module")
def session(house: WebHouse) -> str:
    return house.new_session()


@pytest.fixture
def cookie(house: WebHouse) -> str:
    return house.do(COOKIE)


@pytest.fixture(autouse=True)
def nobody_is_connected(house: WebHouse) -> None:
    wait_until(lambda: house.connection_rows() == 0, within=10, what="no row of a closed socket")


def test_without_a_token_or_login_the_code_is_4401(house: WebHouse, session: str) -> None:
    for path in ("/ws/", f"/ws/sessions/{session}/", "/ws/nothing/here/"):
        for token in ("", "cmb_wrong"):
            with Client.open(house, path, token=token) as client:
                assert client.close_code() == 4401
                assert client.frames == []


def test_a_path_that_is_none_is_gone(house: WebHouse) -> None:
    with Client.open(house, "/ws/nothing/here/") as client:
        assert client.close_code() == 4404


def test_a_page_of_ours_comes_in_with_its_cookie(house: WebHouse, cookie: str) -> None:
    with Client.open(house, token="", Cookie=cookie, Origin=house.url) as client:
        assert client.frame()["type"] == "hello"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:1", "null", "ftp://127.0.0.1"]
)
def test_a_page_of_another_site_is_refused_at_the_handshake(
    house: WebHouse, cookie: str, origin: str
) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        Client.open(house, token="", Cookie=cookie, Origin=origin),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_one_connection_too_many_is_told_so(house: WebHouse) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client.open(house)) for _ in range(LIMIT)]
        assert {client.frame()["type"] for client in clients} == {"hello"}
        with Client.open(house) as late:
            assert late.close_code() == 4408
        assert house.connection_rows() == LIMIT
        clients[0].connection.close()
        wait_until(lambda: house.connection_rows() < LIMIT, within=10, what="a free place")
        with Client.open(house) as later:
            assert later.frame()["type"] == "hello"


def test_a_connection_can_be_cut_by_its_own_group(house: WebHouse) -> None:
    with Client.open(house) as client:
        house.do(CUT.format(client.frame()["connection_id"]))
        assert client.close_code() == 4401


def test_who_signs_out_is_cut_at_once(house: WebHouse, cookie: str) -> None:
    with Client.open(house, token="", Cookie=cookie, Origin=house.url) as client:
        client.wait_for("hello")
        house.do(SIGN_OUT.format(*cookie.split("=")))
        assert client.close_code() == 4401


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x00\x01", "bad_frame"),
        ("", "bad_frame"),
        ("{", "bad_frame"),
        ("[]", "bad_frame"),
        ("null", "bad_frame"),
        ('"subscribe"', "bad_frame"),
        ("{}", "bad_frame"),
        ('{"type": 1}', "unknown_type"),
        ('{"type": "start_run", "task": "x"}', "unknown_type"),
        ('{"type": "subscribe"}', "bad_frame"),
        ('{"type": "subscribe", "session": "x"}', "bad_frame"),
        ('{"type": "ping", "id": -1}', "bad_frame"),
        ('{"type": "ping", "id": true}', "bad_frame"),
        ('{"type": "ping", "id": 1.5}', "bad_frame"),
        ('{"type": "ping", "id": 1e400}', "bad_frame"),
        ('{"type": "ping", "id": 9999999999999999999999}', "bad_frame"),
        ('{"type": "ping", "id": 1, "extra": 1}', "bad_frame"),
        ('{"type": "ping", "id": "\\ud800"}', "bad_frame"),
        ("[" * 30_000, "bad_frame"),
    ],
)
def test_a_bad_frame_is_answered_and_the_socket_stays(
    house: WebHouse, sent: str | bytes, code: str
) -> None:
    with Client.open(house) as client:
        client.connection.send(sent)
        assert client.wait_for("error")["code"] == code
        client.send(type="ping", id=1)
        assert client.wait_for("pong")["id"] == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"after": -1},
        {"after": True},
        {"after": "1"},
        {"after": 2**60},
        {"epoch": "x" * 100},
        {"format": "xml"},
        {"task": "x"},
    ],
)
def test_a_bad_field_is_named(house: WebHouse, session: str, fields: dict[str, Any]) -> None:
    with Client.open(house) as client:
        client.send(type="subscribe", **{"id": 1, "session": session, "after": 0, **fields})
        error = client.wait_for("error")
        assert error["code"] == "bad_frame"
        assert error["message"].startswith(next(iter(fields)))


def test_a_bad_after_in_the_path_is_answered_and_the_socket_stays(
    house: WebHouse, session: str
) -> None:
    for after in ("-1", "x", "1.5", "", "9" * 30, "%F0"):
        with Client.open(house, f"/ws/sessions/{session}/?after={after}") as client:
            assert client.wait_for("error" if after else "live")["type"]
            client.send(type="subscribe", id=1, session=session, after=0)
            assert client.wait_for("live")["head"] == 1


@pytest.mark.parametrize("size", [64 * 1024 + 1, 5 * 2**20])
def test_a_frame_that_is_too_big_closes_with_1009(house: WebHouse, size: int) -> None:
    with Client.open(house) as client:
        client.frame()
        client.connection.send("x" * size)
        assert client.close_code() == 1009


def test_a_big_message_in_small_pieces_is_too_big_as_well(house: WebHouse) -> None:
    with Client.open(house) as client:
        client.frame()
        client.connection.send(["x" * 1000] * 100)
        assert client.close_code() == 1009


def test_a_frame_as_long_as_allowed_is_read(house: WebHouse) -> None:
    frame = json.dumps({"type": "ping", "id": 3}).ljust(64 * 1024)
    with Client.open(house) as client:
        client.connection.send(frame)
        assert client.wait_for("pong")["id"] == 3


def test_at_most_fifty_subscriptions(house: WebHouse) -> None:
    program = (
        "from sessions_app.models import Session\nfrom django.contrib.auth.models import User\n"
    )
    program += "u = User.objects.get(username='alice')\n"
    program += "for _ in range(51): print(Session.objects.create(owner=u, mode='one-shot').pk)"
    sessions = house.do(program).split()
    with Client.open(house) as client:
        for number, session in enumerate(sessions):
            client.send(type="subscribe", id=number, session=session, after=0)
        assert client.wait_for("error")["code"] == "too_many_subscriptions"
        client.send(type="ping", id=1)
        assert set(client.wait_for("pong")["sent"]) == set(sessions[:50])


def test_the_twenty_first_rewind_in_a_minute_is_refused_and_the_stream_goes_on(
    house: WebHouse, session: str
) -> None:
    with Client.open(house) as client:
        for number in range(21):
            client.send(type="subscribe", id=number, session=session, after=0)
            assert client.wait_for("live")
        client.send(type="subscribe", id=21, session=session, after=0)
        refused = client.wait_for("error")
        assert (refused["code"], refused["session"]) == ("slow_down", session)
        client.send(type="ping", id=1)
        last = client.wait_for("pong")["sent"][session]
        house.write(session, 1)
        event = client.wait_for("events")
        assert (event["id"], event["first"]) == (20, last + 1)


def test_to_leave_and_come_back_is_a_rewind(house: WebHouse, session: str) -> None:
    with Client.open(house) as client:
        for number in range(21):
            client.send(type="subscribe", id=number, session=session, after=0)
            assert client.wait_for("live")
            client.send(type="unsubscribe", session=session)
        client.send(type="subscribe", id=21, session=session, after=0)
        assert client.wait_for("error")["code"] == "slow_down"


def test_who_asks_too_often_is_told_to_slow_down(house: WebHouse) -> None:
    with Client.open(house) as client:
        for number in range(400):
            client.send(type="ping", id=number)
        assert client.wait_for("error")["code"] == "slow_down"
