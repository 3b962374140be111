"""Batches of many runs in one transaction: each as if it had been stored alone."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from execution_app.committer import GroupCommitter
from execution_app.errors import LeaseLost
from execution_app.group_commit import Committer, packet, read_packet
from execution_app.models import Run
from execution_app.services import Batch, Claim, claim_run, record_batch, record_group
from sessions_app.event_types import AgentDelta, EventData, Output, PhaseChanged
from sessions_app.models import Event, Session
from tests.conftest import MakeRun, MakeSession

MakeClaim = Callable[[], Claim]


@pytest.fixture
def make_claim(alice: User, make_session: MakeSession, make_run: MakeRun) -> MakeClaim:
    def make() -> Claim:
        make_run(make_session(alice), status="queued")
        claimed = claim_run(owner="host:1", sandbox_level=1)
        assert claimed is not None
        return claimed

    return make


def out(text: str, line: int = 1) -> Output:
    return Output(stream="stdout", line=line, text=text)


def batch_of(claim: Claim, *events: EventData) -> Batch:
    batch = Batch.of(claim, events)
    assert batch is not None
    return batch


def told(claim: Claim) -> list[tuple[int, str, str | None, Any]]:
    events = Event.objects.filter(session_id=claim.session_id, run_id=claim.run_id).order_by("seq")
    rows = events.filter(event_type__in=["output", "agent_delta"])
    return list(rows.values_list("seq", "event_type", "step", "data"))


@pytest.mark.django_db
class TestRecordGroup:
    def test_each_is_stored_as_if_alone(self, make_claim: MakeClaim) -> None:
        alone, first, second = make_claim(), make_claim(), make_claim()
        said: list[EventData] = [
            out("a\n").in_step("2"),
            AgentDelta(agent="engineer", content="I"),
            out("b\n", 2),
        ]
        record_batch(alone, said)

        stored = record_group([batch_of(first, *said), batch_of(second, out("c\n"))])

        assert stored == {first.run_id, second.run_id}
        assert told(first) == told(alone)
        assert [data["text"] for *_, data in told(second)] == ["c\n"]
        for claim in (alone, first, second):
            session = Session.objects.get(pk=claim.session_id)
            seqs = Event.objects.filter(session=session).order_by("seq").values_list("seq")
            assert [seq for (seq,) in seqs] == list(range(1, session.last_seq + 1))

    def test_the_fence_stands_as_after_a_batch_stored_alone(self, make_claim: MakeClaim) -> None:
        alone, grouped = make_claim(), make_claim()
        Run.objects.update(lease_expires_at="2020-01-01T00:00:00Z")
        record_batch(alone, [out("a\n")])
        record_group([batch_of(grouped, out("a\n"))])

        one, other = (Run.objects.get(pk=claim.run_id) for claim in (alone, grouped))
        assert (one.batch, one.crashes) == (other.batch, other.crashes) == (1, 0)
        assert one.lease_expires_at is not None
        assert other.lease_expires_at is not None
        assert abs((one.lease_expires_at - other.lease_expires_at).total_seconds()) < 10

    @pytest.mark.parametrize(
        "theft",
        [{"attempt": 7}, {"lease_owner": "other"}, {"batch": 9}, {"status": "queued"}],
        ids=["attempt", "owner", "batch", "status"],
    )
    def test_who_lost_the_run_is_left_out(
        self, make_claim: MakeClaim, theft: dict[str, Any]
    ) -> None:
        lost, held = make_claim(), make_claim()
        if "status" in theft:
            theft = theft | {"lease_owner": "", "lease_expires_at": None}
        Run.objects.filter(pk=lost.run_id).update(**theft)

        assert record_group([batch_of(lost, out("late\n")), batch_of(held, out("a\n"))]) == {
            held.run_id
        }
        assert told(lost) == []
        with pytest.raises(LeaseLost):
            record_batch(lost, [out("late\n")])

    def test_a_batch_comes_once_whoever_stores_it(self, make_claim: MakeClaim) -> None:
        claim = make_claim()
        batch = batch_of(claim, out("once\n"))

        assert record_group([batch]) == {claim.run_id}
        assert record_group([batch]) == set()  # asked again: it is stored already
        record_batch(claim, [out("once\n")])  # its supervisor never heard the answer

        assert [data["text"] for *_, data in told(claim)] == ["once\n"]
        assert claim.batch == 1

    def test_two_of_one_run_in_one_group_are_never_both_stored(self, make_claim: MakeClaim) -> None:
        """A supervisor that grew impatient left one in the committer's queue."""
        claim = make_claim()
        old = batch_of(claim, out("one\n"))
        record_batch(claim, [out("one\n")])
        new = batch_of(claim, out("two\n", 2))

        assert record_group([old, new]) == {claim.run_id}
        assert [data["text"] for *_, data in told(claim)] == ["one\n", "two\n"]

    def test_statements_do_not_grow_with_the_runs(self, make_claim: MakeClaim) -> None:
        claims = [make_claim() for _ in range(12)]
        counted = []
        for group in (claims[:2], claims[2:]):
            with CaptureQueriesContext(
                connection,
            ) as queries:
                record_group([batch_of(claim, out("a\n")) for claim in group])
            counted.append(len(queries))
        assert counted[0] == counted[1]

    def test_nothing_but_lines_goes_this_way(self, make_claim: MakeClaim) -> None:
        claim = make_claim()
        assert Batch.of(claim, [out("a\n"), PhaseChanged(phase="fit")]) is None


@pytest.mark.django_db
def test_a_packet_is_read_as_it_was_sent(make_claim: MakeClaim) -> None:
    claim = make_claim()
    batch = batch_of(claim, out("é \x1b[31m\r\n").in_step("1"), AgentDelta(agent="a", content="b"))
    assert read_packet(packet(batch)) == dataclasses.replace(batch)


@pytest.fixture
def committer(settings: Any, tmp_path: Any) -> Iterator[GroupCommitter]:
    settings.RUNTIME_DIR = tmp_path
    serving = GroupCommitter()
    yield serving
    serving.close()


def ask(client: Committer, batch: Batch, server: GroupCommitter) -> bool:
    """The answer of a committer that serves in this thread: the database is this test's."""
    answers: list[bool] = []
    asking = threading.Thread(target=lambda: answers.append(client.takes(batch)))
    asking.start()
    while asking.is_alive():
        server.serve_once(0.01)
    asking.join()
    return answers[0]


@pytest.mark.django_db
class TestCommitter:
    def test_it_stores_and_says_so(self, make_claim: MakeClaim, committer: GroupCommitter) -> None:
        claim, client = make_claim(), Committer()
        assert ask(client, batch_of(claim, out("a\n")), committer)
        assert [data["text"] for *_, data in told(claim)] == ["a\n"]
        client.close()

    @pytest.mark.parametrize("refusal", [DatabaseError("refused"), ValueError("no such text")])
    def test_who_is_refused_is_told_to_store_it_alone(
        self,
        make_claim: MakeClaim,
        committer: GroupCommitter,
        monkeypatch: pytest.MonkeyPatch,
        refusal: Exception,
    ) -> None:
        claim, client = make_claim(), Committer()

        def refuse(_: object) -> None:
            raise refusal

        with monkeypatch.context() as patched:
            patched.setattr("execution_app.committer.record_group", refuse)
            patched.setattr("execution_app.committer.connection", connection_that_stays())
            assert not ask(client, batch_of(claim, out("a\n")), committer)
        assert ask(client, batch_of(claim, out("a\n")), committer)  # and it serves on
        client.close()

    @pytest.mark.parametrize(
        "odd",
        [b'{"no": "batch"}', b"[" * 90_000, b'[1, 2, "host:1", 1, 0, []]', b"\xff", b"null"],
        ids=["another shape", "deeply nested", "numbers for ids", "no text", "nothing"],
    )
    def test_what_is_no_batch_ends_its_connection_and_nothing_else(
        self,
        make_claim: MakeClaim,
        committer: GroupCommitter,
        monkeypatch: pytest.MonkeyPatch,
        odd: bytes,
    ) -> None:
        claim, client = make_claim(), Committer()
        with monkeypatch.context() as patched:
            patched.setattr("execution_app.group_commit.packet", lambda _: odd)
            assert not ask(Committer(), batch_of(claim, out("a\n")), committer)
        assert told(claim) == []
        assert ask(client, batch_of(claim, out("a\n")), committer)
        client.close()


@pytest.mark.django_db
def test_out_of_descriptors_it_serves_those_it_has(
    make_claim: MakeClaim, committer: GroupCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, client = make_claim(), Committer()
    assert ask(client, batch_of(claim, out("a\n")), committer)
    claim.batch += 1

    class Full:
        def accept(self) -> None:
            raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(committer, "_listener", Full())
        committer._accept()
    assert ask(client, batch_of(claim, out("b\n", 2)), committer)
    assert [data["text"] for *_, data in told(claim)] == ["a\n", "b\n"]
    client.close()


def test_without_a_committer_nobody_waits(settings: Any, tmp_path: Any) -> None:
    settings.RUNTIME_DIR = tmp_path
    client = Committer()
    assert not client._is_connected()


@pytest.mark.django_db
def test_a_committer_that_does_not_answer_is_asked_ever_more_rarely(
    make_claim: MakeClaim, committer: GroupCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("execution_app.group_commit.ANSWER_WITHIN_SECONDS", 0.05)
    claim, client = make_claim(), Committer()
    rests = []
    for _ in range(7):
        client._not_before = 0.0
        assert not client.takes(batch_of(claim, out("a\n")))  # nobody serves
        rests.append(round(client._not_before - time.monotonic()))
    assert rests == [1, 2, 4, 8, 16, 30, 30]
    assert told(claim) == []


def connection_that_stays() -> Any:
    class Stays:
        def close(self) -> None:
            """The test's transaction is in it."""

    return Stays()
