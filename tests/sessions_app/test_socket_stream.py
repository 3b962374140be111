"""The stream over a real web process, on both databases and both channel layers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.deployment import Shape
from tests.sessions_app.socket_house import Client, WebHouse, text_of

pytestmark = pytest.mark.acceptance
EPOCH = (
    "from sessions_app.models import Session; Session.objects.filter(pk='{}').update(epoch='{}')"
)


@pytest.fixture(scope="module", params=["embedded", "production"])
def house(request: pytest.FixtureRequest) -> Iterator[WebHouse]:
    shape: Shape = request.param
    with WebHouse.open(shape) as running:
        yield running


@pytest.fixture
def session(house: WebHouse) -> str:
    return house.new_session()


@pytest.fixture(scope="module")
def stranger(house: WebHouse) -> str:
    return house.new_user("charlie")


def test_hello_comes_first_and_pong_says_what_was_sent(house: WebHouse, session: str) -> None:
    with Client.open(house, f"/ws/sessions/{session}/?after=0") as client:
        hello = client.frame()
        assert {name: hello[name] for name in ("type", "protocol", "heartbeat_s")} == {
            "type": "hello",
            "protocol": 1,
            "heartbeat_s": 15,
        }
        assert client.wait_for("live")["head"] == 1
        client.send(type="ping", id=7)
        pong = client.wait_for("pong")
        assert (pong["id"], pong["sent"]) == (7, {session: 1})


def test_an_event_looks_as_the_protocol_says(house: WebHouse, session: str) -> None:
    with Client.open(house, f"/ws/sessions/{session}/") as client:
        (event,) = client.wait_for("events")["events"]
    assert list(event) == [
        "seq",
        "event_type",
        "timestamp",
        "session_id",
        "run_id",
        "step",
        "data",
    ]
    assert (event["seq"], event["event_type"], event["session_id"]) == (
        1,
        "session_created",
        session,
    )
    assert event["timestamp"].endswith("Z")


def test_html_and_json_tell_the_same_log(house: WebHouse, session: str) -> None:
    house.write(session, 700)
    seen: dict[str, list[tuple[int, str, str]]] = {}
    for fmt in ("json", "html"):
        with Client.open(house) as client:
            client.send(type="subscribe", id=1, session=session, after=0, format=fmt)
            client.follow(session, until=701)
            events = [e for f in client.frames if f["type"] == "events" for e in f["events"]]
        seen[fmt] = [(e["seq"], e["event_type"], text_of(e)) for e in events]
    assert seen["html"] == seen["json"]


def test_replay_and_live_without_gap_or_repetition(house: WebHouse, session: str) -> None:
    total = 2000
    house.write(session, 500, seed=1)

    def follow(after: int) -> list[tuple[int, str]]:
        with Client.open(house, f"/ws/sessions/{session}/?after={after}") as client:
            return client.follow(session, after=after, until=1 + 500 + total)

    with ThreadPoolExecutor() as pool, house.writing(session, total, seed=2):
        readers = {after: pool.submit(follow, after) for after in (0, 250)}
        lines = {after: reader.result(60) for after, reader in readers.items()}
    log = house.logged_lines(session)
    assert lines[0] == log
    assert lines[250] == log[250:]


def test_reconnecting_with_after_goes_on_where_it_was(house: WebHouse, session: str) -> None:
    lines: list[tuple[int, str]] = []
    with house.writing(session, 1000, pause=0.05):
        for until in (50, 51, 400, 1001):
            with Client.open(house) as client:
                client.send(type="subscribe", id=1, session=session, after=len(lines))
                lines += client.follow(session, after=len(lines), until=until)
    assert lines == house.logged_lines(session)


def test_two_sessions_on_one_socket_keep_apart(house: WebHouse) -> None:
    first, second = house.new_session(), house.new_session()
    with Client.open(house) as client:
        for number, session in enumerate((first, second)):
            client.send(type="subscribe", id=number, session=session, after=0)
        house.write(first, 30, seed=1)
        house.write(second, 30, seed=2)
        got: dict[str, list[tuple[int, str]]] = {first: [], second: []}
        while sum(map(len, got.values())) < 62:
            frame = client.wait_for("events")
            assert frame["id"] == [first, second].index(frame["session"])
            got[frame["session"]] += [
                (e["seq"], e["data"].get("text", "")) for e in frame["events"]
            ]
    assert got == {session: house.logged_lines(session) for session in (first, second)}


def test_subscribing_again_rewinds_and_unsubscribing_ends(house: WebHouse, session: str) -> None:
    house.write(session, 10)
    with Client.open(house) as client:
        client.send(type="subscribe", id=1, session=session, after=5)
        assert client.wait_for("events")["first"] == 6
        client.send(type="subscribe", id=2, session=session, after=0)
        frame = client.wait_for("events")
        assert (frame["id"], frame["first"]) == (2, 1)
        client.send(type="unsubscribe", session=session)
        client.send(type="ping", id=1)
        assert client.wait_for("pong")["sent"] == {}
        house.write(session, 5)
        assert client.silence(1.5)


def test_a_cursor_beyond_the_log_is_reset(house: WebHouse, session: str) -> None:
    with Client.open(house, f"/ws/sessions/{session}/?after=99") as client:
        reset = client.wait_for("reset")
        assert (reset["session"], reset["head"]) == (session, 1)
        client.send(type="subscribe", id=1, session=session, after=0, epoch=reset["epoch"])
        assert client.wait_for("events")["last"] == 1


def test_another_epoch_is_reset(house: WebHouse, session: str) -> None:
    with Client.open(house) as client:
        client.send(type="subscribe", id=1, session=session, after=0, epoch="another")
        assert client.wait_for("reset")["epoch"] != "another"


def test_a_restored_backup_is_announced_to_who_reads_live(house: WebHouse, session: str) -> None:
    with Client.open(house, f"/ws/sessions/{session}/") as client:
        client.wait_for("live")
        house.do(EPOCH.format(session, "restored"))
        assert client.wait_for("reset")["epoch"] == "restored"


def test_a_stranger_meets_what_does_not_exist(house: WebHouse, session: str, stranger: str) -> None:
    for hidden in (session, str(uuid.uuid4()), "no-id"):
        with Client.open(house, f"/ws/sessions/{hidden}/", token=stranger) as client:
            assert client.close_code() == 4404
            assert client.frames == []
    answers = []
    with Client.open(house, token=stranger) as client:
        for hidden in (session, str(uuid.uuid4())):
            client.send(type="subscribe", id=1, session=hidden, after=0)
            answer = client.wait_for("error")
            assert answer.pop("session") == hidden
            answers.append(answer)
        client.send(type="ping", id=1)
        assert client.wait_for("pong")["sent"] == {}
    assert answers[0] == answers[1]
    assert answers[0]["code"] == "not_found"


def test_a_session_that_is_deleted_ends_its_readers(house: WebHouse, session: str) -> None:
    with (
        Client.open(house, f"/ws/sessions/{session}/") as by_path,
        Client.open(house) as by_frame,
    ):
        by_frame.send(type="subscribe", id=1, session=session, after=0)
        for client in (by_path, by_frame):
            client.wait_for("live")
        house.client.delete(f"/api/sessions/{session}").raise_for_status()
        assert by_path.close_code() == 4404
        assert by_frame.wait_for("error")["code"] == "not_found"


def test_without_acks_the_client_gets_the_window_and_then_waits(
    house: WebHouse, session: str
) -> None:
    house.write(session, 6000)
    with Client.open(house, f"/ws/sessions/{session}/") as client:
        assert not client.silence(15)
        while not client.silence(2):
            pass
        frames = [frame for frame in client.frames if frame["type"] == "events"]
        assert frames[-1]["last"] <= 4000
        assert sum(frame["size"] for frame in frames) <= 2**20
        assert all(len(f["events"]) <= 500 and f["size"] <= 128 * 1024 for f in frames)
        client.send(type="ack", session=session, seq=frames[-1]["last"])
        lines = client.follow(session, after=frames[-1]["last"], until=6001)
        assert lines == house.logged_lines(session)[frames[-1]["last"] :]
