"""One reader for all who watch a session: what is shared, with whom, and who never waits."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.utils import timezone

from sessions_app.hints import session_group
from sessions_app.models import Session
from sessions_app.services import Newcomer, create_session, create_token, open_connections
from sessions_app.sockets import catching_up, patrol, ticker, together
from sessions_app.sockets.delivery import delivery
from sessions_app.sockets.reading import WHOLE_FRAME, Question, Reading, read_log, read_logs
from sessions_app.sockets.rights import find_states
from tests.sessions_app.socket_in_process import (
    connected,
    forget_the_process,
    new_token,
    subscribe,
    wait_for,
    write,
)


@pytest.fixture(autouse=True)
def nothing_is_kept(transactional_db: None) -> Iterator[None]:
    yield
    forget_the_process()


@pytest.fixture
def session(alice: User) -> Session:
    return create_session(owner=alice, mode="one-shot")


@pytest.fixture
def token(alice: User) -> str:
    return create_token(user=alice)


@pytest.fixture
def staff() -> User:
    return User.objects.create(username="dora", is_staff=True)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Reading]:
    """Of feeds, and of those who catch up: those that found something."""
    found: list[Reading] = []

    def noted(questions: Sequence[Question]) -> list[Reading | None]:
        answers = read_logs(questions)
        found.extend(each for each in answers if each and each.count)
        return answers

    monkeypatch.setattr(together, "read_logs", noted)
    monkeypatch.setattr(catching_up, "read_log", lambda question: noted([question])[0])
    return found


@pytest.fixture
def catch_ups_stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Every reading of those who are behind waits, in its thread, for this."""
    gate = threading.Event()

    def stuck(question: Question) -> Reading | None:
        gate.wait(30)
        return read_log(question)

    monkeypatch.setattr(catching_up, "read_log", stuck)
    yield gate
    gate.set()


@pytest.fixture
def no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticker, "TICK_SECONDS", 60)
    monkeypatch.setattr(patrol, "STEP_SECONDS", 60)


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not look():  # noqa: ASYNC110  what is looked at is no event
            await asyncio.sleep(0.02)


async def has_looked(session: Session) -> None:
    """A reading that was under way when the last subscriber came is over."""
    feeding = delivery().feeds[session.pk]
    before = feeding.looked_at
    feeding.wake()
    await until(lambda: feeding.looked_at > before)
    feeding.wake()
    between = feeding.looked_at
    await until(lambda: feeding.looked_at > between)


async def test_two_subscribers_share_one_reading_and_its_text(
    session: Session, token: str, readings: list[Reading]
) -> None:
    async with connected(token) as first, connected(token) as second:
        for client in (first, second):
            await subscribe(client, session, id=1)
        await has_looked(session)
        await write(session, 3)
        texts = [await client.receive_from(timeout=10) for client in (first, second)]
        assert json.loads(texts[0])["last"] == 4
        assert texts[0] is texts[1]
    assert [reading.count for reading in readings] == [3]


async def test_both_formats_come_of_one_reading_with_the_same_seqs(
    session: Session, token: str, readings: list[Reading]
) -> None:
    async with connected(token) as data, connected(token) as page:
        await subscribe(data, session)
        await subscribe(page, session, format="html")
        await has_looked(session)
        await write(session, 3)
        frames = [await wait_for(client, "events") for client in (data, page)]
    seqs = [[event["seq"] for event in frame["events"]] for frame in frames]
    assert seqs == [[2, 3, 4]] * 2
    assert "data" in frames[0]["events"][0]
    assert frames[1]["events"][0]["meta"]["text"] == "0\n"
    assert [sorted(reading.pieces) for reading in readings] == [["html", "json"]]


@pytest.mark.parametrize("is_hinted", [True, False])
async def test_who_lost_the_right_gets_nothing_more_and_others_go_on(
    session: Session, token: str, staff: User, bob: User, is_hinted: bool, no_tick: None
) -> None:
    async with connected(token) as alice, connected(await new_token(staff)) as other:
        for client in (alice, other):
            await subscribe(client, session)
        await Session.objects.filter(pk=session.pk).aupdate(owner=bob)
        if is_hinted:
            delivery().feeds[session.pk].wake()
        else:
            await write(session, 3)
        frame = json.loads(await alice.receive_from(timeout=10))
        assert (frame["type"], frame["code"]) == ("error", "not_found")
        await write(session, 1)
        assert (await wait_for(other, "events"))["first"] == 2
        assert await alice.receive_nothing(timeout=0.3)


async def test_who_came_after_rights_were_asked_is_not_served_by_that_answer(
    session: Session, token: str, staff: User, monkeypatch: pytest.MonkeyPatch, no_tick: None
) -> None:
    asked, gate = threading.Event(), threading.Event()

    def slow(questions: Sequence[Question]) -> list[Reading | None]:
        answers = read_logs(questions)
        if any(each and each.count for each in answers):
            asked.set()
            gate.wait(30)
        return answers

    monkeypatch.setattr(together, "read_logs", slow)
    async with connected(token) as alice, connected(await new_token(staff)) as late:
        await subscribe(alice, session)
        await write(session, 1)
        await until(asked.is_set)
        await late.send_to(
            json.dumps({"type": "subscribe", "session": str(session.pk), "after": 1})
        )
        await until(lambda: len(delivery().feeds[session.pk]._subscribers) == 2)
        await User.objects.filter(pk=staff.pk).aupdate(is_staff=False)
        gate.set()
        assert (await wait_for(alice, "events"))["last"] == 2
        await wait_for(late, "hello")
        assert json.loads(await late.receive_from(timeout=10))["code"] == "not_found"


async def test_a_deleted_session_is_gone_for_all_its_subscribers(
    session: Session, token: str, staff: User
) -> None:
    async with connected(token) as alice, connected(await new_token(staff)) as other:
        for client in (alice, other):
            await subscribe(client, session)
        await Session.objects.filter(pk=session.pk).aupdate(deleted_at=timezone.now())
        for client in (alice, other):
            assert (await wait_for(client, "error"))["code"] == "not_found"
        assert not delivery().feeds


async def test_a_restored_backup_is_told_to_all_and_they_begin_again(
    session: Session, token: str
) -> None:
    async with connected(token) as first, connected(token) as second:
        for client in (first, second):
            await subscribe(client, session)
        await Session.objects.filter(pk=session.pk).aupdate(epoch="restored")
        for client in (first, second):
            assert (await wait_for(client, "reset"))["epoch"] == "restored"
            await subscribe(client, session, epoch="restored")
        await write(session, 1)
        assert {(await wait_for(client, "events"))["last"] for client in (first, second)} == {2}


async def test_a_feed_ends_with_its_last_subscriber(session: Session, token: str) -> None:
    house = delivery()
    group = session_group(session.pk)
    async with connected(token) as staying:
        await subscribe(staying, session)
        async with connected(token) as leaving:
            await subscribe(leaving, session)
            assert list(house.feeds) == [session.pk]
        assert list(house.feeds) == [session.pk]
        await staying.send_to(json.dumps({"type": "unsubscribe", "session": str(session.pk)}))
        await until(lambda: not house.feeds and group not in house.ear._wanted)
        await until(lambda: session.pk not in house.ticker._readers)
        await subscribe(staying, session)
        assert group in house.ear._wanted
    await until(lambda: not house.feeds and not house.sockets and not house.ear._wanted)


async def test_who_reads_live_does_not_wait_for_those_who_catch_up(
    session: Session, token: str, alice: User, catch_ups_stuck: threading.Event
) -> None:
    async with connected(token) as live:
        await subscribe(live, session)
        late = [connected(token, f"/ws/sessions/{session.pk}/") for _ in range(8)]
        clients = [await each.__aenter__() for each in late]
        for client in clients:
            await wait_for(client, "hello")
        for number in range(3):
            await write(session, 1)
            assert (await wait_for(live, "events"))["last"] == 2 + number
        other = await sync_to_async(create_session)(owner=alice, mode="one-shot")
        await subscribe(live, other)  # nor does who comes to another session
        catch_ups_stuck.set()
        for client in clients:
            assert (await wait_for(client, "live"))["head"] == 4
        for each in late:
            await each.__aexit__(None, None, None)


async def test_those_who_catch_up_are_served_in_turn(
    session: Session, token: str, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await sync_to_async(create_session)(owner=alice, mode="one-shot")
    for each in (session, other):
        await write(each, 2000)
    turns: list[uuid.UUID] = []

    def noted(question: Question) -> Reading | None:
        turns.append(question.session_id)
        return read_log(question)

    monkeypatch.setattr(catching_up, "read_log", noted)
    monkeypatch.setattr(catching_up, "AT_ONCE", 1)
    async with connected(token) as client:
        for each in (session, other):
            frame = {"type": "subscribe", "session": str(each.pk), "after": 0}
            await client.send_to(json.dumps(frame))
        for _ in range(2):
            await wait_for(client, "live")
    assert len(turns) > 8
    assert set(turns[:3]) == set(turns[-3:]) == {session.pk, other.pk}


async def test_who_never_acknowledges_costs_its_window_and_the_others_read_on(
    session: Session, token: str
) -> None:
    async with connected(token) as stalled, connected(token) as reader:
        for client in (stalled, reader):
            await subscribe(client, session)
        for _ in range(10):
            await write(session, 500)
            head = (await Session.objects.aget(pk=session.pk)).last_seq
            while (await wait_for(reader, "events"))["last"] < head:
                pass
            ack = {"type": "ack", "session": str(session.pk), "seq": head}
            await reader.send_to(json.dumps(ack))
        frames = [
            json.loads(stalled.output_queue.get_nowait()["text"])
            for _ in range(stalled.output_queue.qsize())
        ]
        assert frames[-1]["last"] <= 4001
        assert len(delivery().feeds) == 1
        (feeding,) = delivery().feeds.values()
        assert feeding.at == 5001


async def test_feeds_that_move_together_are_read_together(
    session: Session, token: str, alice: User, django_assert_max_num_queries: Any
) -> None:
    sessions = [await sync_to_async(create_session)(owner=alice, mode="one-shot") for _ in range(9)]
    for number, each in enumerate(sessions):
        await write(each, 25 if number == 5 else number)

    def ask(after: int) -> list[Reading | None]:
        users, room = frozenset({alice.pk}), WHOLE_FRAME
        questions = [Question(each.pk, users, after, {"json"}, room, 100) for each in sessions]
        with django_assert_max_num_queries(3):  # states; the far one; the others
            return read_logs(questions)

    for after in (0, 1, 3):
        answers = await sync_to_async(ask)(after)
        heads = [1 + (25 if number == 5 else number) for number in range(9)]
        assert [each and each.state.head for each in answers] == heads
        assert [each and each.count for each in answers] == [max(0, h - after) for h in heads]


async def test_a_log_that_cannot_be_written_down_hurts_no_other(
    session: Session, token: str, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await sync_to_async(create_session)(owner=alice, mode="one-shot")

    def odd(questions: Sequence[Question]) -> list[Reading | None]:
        if any(each.session_id == other.pk for each in questions):
            raise RuntimeError("odd")
        return read_logs(questions)

    monkeypatch.setattr(together, "read_logs", odd)
    both = [
        Question(each.pk, frozenset({alice.pk}), 0, {"json"}, WHOLE_FRAME, 100)
        for each in (other, session)
    ]
    reading = together.Together()
    answers = await asyncio.gather(*map(reading.read, both), return_exceptions=True)
    assert isinstance(answers[0], RuntimeError)
    assert isinstance(answers[1], Reading)
    assert answers[1].count == 1


@pytest.mark.parametrize("name", ["alice", "bob", "charlie", "dora"])
def test_sockets_and_pages_agree_on_who_may_see(
    session: Session, bob: User, charlie: User, staff: User, name: str
) -> None:
    user = User.objects.get(username=name)
    others = create_session(owner=bob, mode="one-shot")
    gone = create_session(owner=bob, mode="one-shot")
    Session.objects.filter(pk=gone.pk).update(deleted_at=timezone.now())
    everything = [session.pk, others.pk, gone.pk, uuid.uuid4()]
    asked = find_states({each: {user.pk, 999} for each in everything})
    seen = Session.objects.visible_to(user).values_list("pk", flat=True)
    assert set(asked) == set(seen)
    assert all(state.viewers == {user.pk} for state in asked.values())


def test_one_user_cannot_take_all_places(alice: User, bob: User, settings: Any) -> None:
    settings.MAX_CONNECTIONS_PER_USER = 2
    asking = [Newcomer(uuid.uuid4(), user.pk, None) for user in (alice, alice, bob, alice)]
    assert open_connections(asking) == {asking[3].connection_id}
    again = Newcomer(uuid.uuid4(), alice.pk, None)
    assert open_connections([again]) == {again.connection_id}
    assert open_connections(asking[:1]) == set(), "a repetition is no newcomer"
