from __future__ import annotations

import copy
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.db import DataError, OperationalError

from execution_app.errors import LeaseLost
from execution_app.models import Artifact, Run
from execution_app.services import (
    Claim,
    FoundFile,
    Requests,
    claim_run,
    last_console_line,
    record_artifacts,
    record_batch,
    record_process_group,
    release_run,
    renew_lease,
)
from execution_app.services import batches as batches_module
from execution_app.statuses import RunStatus
from sessions_app.event_types import Output
from sessions_app.models import Event, Session
from sessions_app.services import append_events
from tests.conftest import MakeRun, MakeSession

pytestmark = pytest.mark.django_db


@pytest.fixture
def claim(alice: User, make_session: MakeSession, make_run: MakeRun) -> Claim:
    make_run(make_session(alice), status="queued")
    claimed = claim_run(owner="host:1", sandbox_level=1)
    assert claimed is not None
    return claimed


def out(text: str, line: int = 1) -> Output:
    return Output(stream="stdout", line=line, text=text)


def texts(claim: Claim) -> list[str]:
    events = Event.objects.filter(run_id=claim.run_id, event_type="output").order_by("seq")
    return [event.data["text"] for event in events]


def test_events_follow_one_another(claim: Claim) -> None:
    record_batch(claim, [out("a\n"), out("b\n")])
    record_batch(claim, [out("c\n")])

    assert texts(claim) == ["a\n", "b\n", "c\n"]
    session = Session.objects.get(pk=claim.session_id)
    seqs = Event.objects.filter(session=session).order_by("seq").values_list("seq", flat=True)
    assert list(seqs) == list(range(1, session.last_seq + 1))


def test_a_batch_whose_confirmation_was_lost_is_stored_once(claim: Claim) -> None:
    again = copy.copy(claim)
    record_batch(claim, [out("once\n")])

    record_batch(again, [out("once\n")])

    assert texts(claim) == ["once\n"]
    assert again.batch == claim.batch


@pytest.mark.parametrize(
    "theft",
    [{"attempt": 7}, {"lease_owner": "other"}, {"batch": 9}],
    ids=["attempt", "owner", "batch"],
)
def test_who_lost_the_run_stores_nothing(claim: Claim, theft: dict[str, object]) -> None:
    Run.objects.filter(pk=claim.run_id).update(**theft)

    with pytest.raises(LeaseLost):
        record_batch(claim, [out("late\n")])

    assert texts(claim) == []


@pytest.mark.parametrize("to", ["queued", "paused"])
def test_who_lost_the_run_can_do_nothing_else(claim: Claim, to: str) -> None:
    Run.objects.filter(pk=claim.run_id).update(
        status=to, lease_owner="", lease_expires_at=None, attempt=2
    )

    with pytest.raises(LeaseLost):
        renew_lease(claim)
    with pytest.raises(LeaseLost):
        record_process_group(claim, 1)
    with pytest.raises(LeaseLost):
        release_run(claim, RunStatus.COMPLETED)
    assert Run.objects.get(pk=claim.run_id).status == to


def refusing(**words: Exception) -> Any:
    """append_events, but what contains one of these words is refused as a database would."""

    def refuse(session_id: Any, events: list[Output], **kw: Any) -> int:
        for word, exception in words.items():
            if any(word in getattr(event, "text", "") for event in events):
                raise exception
        return append_events(session_id, events, **kw)

    return mock.patch.object(batches_module, "append_events", refuse)


def test_what_the_database_refuses_as_data_is_replaced_alone(claim: Claim) -> None:
    with refusing(bad=DataError("invalid text\nDETAIL: …")):
        record_batch(claim, [out("a\n"), out("b\n"), out("bad"), out("c\n")])

    assert texts(claim) == ["a\n", "b\n", "c\n"]
    error = Event.objects.get(run_id=claim.run_id, event_type="error")
    assert error.data == {
        "error_type": "not_storable",
        "message": "an event output was refused: invalid text",
    }


def test_an_outage_in_the_middle_of_a_refused_batch_stores_nothing_twice(claim: Claim) -> None:
    batch = [out("a\n"), out("bad"), out("gone")]

    refused = refusing(bad=DataError("no"), gone=OperationalError("away"))
    with refused, pytest.raises(OperationalError):
        record_batch(claim, batch)
    record_batch(claim, batch)

    assert texts(claim) == ["a\n", "bad", "gone"]


def test_a_file_that_is_refused_takes_nothing_with_it(claim: Claim) -> None:
    good = FoundFile("a.csv", "data", "text/csv", 1, "0" * 64)
    bad = FoundFile("b.csv", "data", "text/csv", 1, "1" * 64)
    store = record_artifacts

    def refuse(session_id: Any, run_id: Any, files: list[FoundFile]) -> None:
        if bad in files:
            raise DataError("value too long")
        store(session_id, run_id, files)

    with mock.patch.object(batches_module, "record_artifacts", refuse):
        record_batch(claim, [out("precious\n")], [bad, good])

    assert texts(claim) == ["precious\n"]
    assert list(Artifact.objects.values_list("path", flat=True)) == ["a.csv"]
    assert "b.csv" in Event.objects.get(event_type="error").data["message"]


@pytest.mark.parametrize("text", ["\0", "\ud800", "\udfff\0x", "plain"])
def test_no_text_is_poison(claim: Claim, text: str) -> None:
    record_batch(claim, [out(text)])

    assert texts(claim) == ["".join("�" if c in "\0\ud800\udfff" else c for c in text)]


def test_files_are_stored_with_their_events(claim: Claim) -> None:
    first = FoundFile("a.csv", "data", "text/csv", 1, "0" * 64)
    second = FoundFile("a.csv", "data", "text/csv", 2, "1" * 64)

    record_batch(claim, [], [first])
    record_batch(claim, [], [second])

    artifact = Artifact.objects.get(run_id=claim.run_id)
    assert (artifact.size, artifact.sha256) == (2, "1" * 64)


@pytest.mark.parametrize(
    ("events", "line"),
    [
        ([], 0),
        ([out("a\nb\n", 1)], 2),
        ([out("a\nb", 1)], 2),
        ([out("a\n", 1), Output(stream="stderr", line=2, text="b\nc\n")], 3),
    ],
)
def test_the_last_line_of_the_console(claim: Claim, events: list[Output], line: int) -> None:
    record_batch(claim, events)

    assert last_console_line(claim.run_id) == line


def test_asked_to_stop_is_told_with_the_lease(claim: Claim, alice: User) -> None:
    assert renew_lease(claim) == Requests(cancel=False, pause=False, by="")

    Run.objects.filter(pk=claim.run_id).update(
        cancel_requested_at="2026-01-01T00:00Z", requested_by="alice"
    )

    assert renew_lease(claim) == Requests(cancel=True, pause=False, by="alice")
