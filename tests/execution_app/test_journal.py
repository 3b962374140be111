"""What a run remembers: stored with what tells of it or not at all, given back as it was."""

from __future__ import annotations

import copy
import itertools
import json
import random
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.db import DataError, OperationalError

from execution_app.errors import EntryRefused, JournalDamaged, LeaseLost
from execution_app.models import JournalEntry, Run, Step, Usage
from execution_app.services import (
    Claim,
    Finished,
    claim_run,
    journal_of,
    record_batch,
    release_crashed,
    retry_run,
)
from execution_app.services import batches as batches_module
from execution_app.services.claims import release_run
from execution_app.services.files import blob_path
from execution_app.services.journal import ROW_BYTES, escaped, unescaped
from execution_app.services.outcomes import failed
from sessions_app.event_types import (
    AgentMessage,
    CostUpdate,
    EventData,
    Output,
    RunFailed,
    StepCompleted,
    StepStarted,
)
from sessions_app.models import Event
from sessions_app.services import append_events
from tests.conftest import MakeRun, MakeSession
from tests.execution_app.making import finished, usage

pytestmark = pytest.mark.django_db


@pytest.fixture
def claim(alice: User, make_session: MakeSession, make_run: MakeRun) -> Claim:
    make_run(make_session(alice), status="queued")
    claimed = claim_run(owner="host:1", sandbox_level=1)
    assert claimed is not None
    return claimed


def said(content: str) -> AgentMessage:
    return AgentMessage(agent="engineer", content=content)


def keys(claim: Claim) -> list[str]:
    return [entry["key"] for entry in journal_of(claim.run_id)]


def log_of(claim: Claim) -> list[tuple[str, str | None]]:
    events = Event.objects.filter(run_id=claim.run_id).order_by("seq")
    return list(events.values_list("event_type", "step"))[1:]  # run_started


# -- whole or not at all ----------------------------------------------------------------------
def test_a_call_is_given_back_as_it_was(claim: Claim) -> None:
    call = finished("agent:a#0/model#0", {"text": "E = mc²"}, usage=usage())

    record_batch(claim, [call])

    assert list(journal_of(claim.run_id)) == [call.entry]


def test_events_come_where_their_call_came(claim: Claim) -> None:
    before, after = (Output(stream="stdout", line=n, text=f"{n}\n") for n in (1, 2))
    call = finished("m#0", "x", said("done").in_step("2"), usage=usage())

    record_batch(claim, [before, call, after])

    assert log_of(claim) == [("output", None), ("agent_message", "2"), ("output", None)]
    assert JournalEntry.objects.get().step == Usage.objects.get().step == "2"


@pytest.mark.parametrize("place", ["append_events", "keep_entry", "follow_steps"])
def test_what_is_cut_off_in_the_middle_left_nothing(claim: Claim, place: str) -> None:
    step = StepStarted(index=1, title="look")
    call = finished("m#0", "x", said("done"), usage=usage())
    batch: list[EventData | Finished] = [step, call, finished("m#1")]

    service = getattr(batches_module, place)
    calls = itertools.count()

    def once(*args: Any, **kwargs: Any) -> None:
        service(*args, **kwargs)
        if next(calls) == 0:
            raise OperationalError("server closed the connection unexpectedly")

    with (
        mock.patch.object(batches_module, place, once),
        pytest.raises(OperationalError),
    ):
        record_batch(claim, batch)

    assert [kind for kind in (JournalEntry, Usage, Step) if kind.objects.exists()] == []
    assert log_of(claim) == []
    record_batch(claim, batch)
    assert keys(claim) == ["m#0", "m#1"]


def test_who_lost_the_run_remembers_nothing(claim: Claim) -> None:
    release_crashed(claim, reason="gone")

    with pytest.raises(LeaseLost):
        record_batch(claim, [finished("m#0", usage=usage())])

    assert [kind for kind in (JournalEntry, Usage) if kind.objects.exists()] == []


def test_a_batch_whose_confirmation_was_lost_is_remembered_once(claim: Claim) -> None:
    again = copy.copy(claim)
    batch = [finished("m#0", "x", said("done"), usage=usage())]
    record_batch(claim, batch)

    record_batch(again, batch)

    assert (keys(claim), Usage.objects.count(), len(log_of(claim))) == (["m#0"], 1, 1)


def test_what_is_finished_clears_the_counts_of_what_went_wrong(claim: Claim) -> None:
    Run.objects.update(crashes=4, postponements=9)
    record_batch(claim, [said("I am still here")])
    assert Run.objects.values_list("crashes", "postponements").get() == (4, 9)

    record_batch(claim, [finished("m#0")])

    assert Run.objects.values_list("crashes", "postponements").get() == (0, 0)


def test_the_next_attempt_knows_how_much_there_is(claim: Claim) -> None:
    record_batch(claim, [finished(f"m#{n}") for n in range(3)])
    release_crashed(claim, reason="gone")

    again = claim_run(owner="host:2", sandbox_level=1)

    assert (claim.journal_entries, again and again.journal_entries) == (0, 3)


# -- exactly ----------------------------------------------------------------------------------
PAYLOADS = [
    None,
    "",
    "NUL \0, half a pair \ud83d, its other half \udd2d, whole \U0001f92d",
    '\\u0000 and "quotes" and \\',
    {"b": 1, "a": {"\0": [[], {}, [None, True, False]]}},
    [0.1, -0.0, 1e-320, 1.7976931348623157e308, 2**80, -(2**63)],
    "x" * (ROW_BYTES - 2),
    "x" * (ROW_BYTES - 1),
    "é" * ROW_BYTES,
    "\ud800" * ROW_BYTES,
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_an_answer_is_the_same_answer(claim: Claim, payload: Any) -> None:
    record_batch(claim, [finished("m#0", payload)])

    (entry,) = journal_of(claim.run_id)

    assert repr(entry["payload"]) == repr(payload)


@pytest.mark.parametrize(("letters", "in_a_blob"), [(ROW_BYTES - 2, False), (ROW_BYTES - 1, True)])
def test_what_is_over_64_kb_is_a_blob(claim: Claim, letters: int, in_a_blob: bool) -> None:
    record_batch(claim, [finished("m#0", "x" * letters)])

    row = JournalEntry.objects.get()
    assert (bool(row.payload_sha256), bool(row.payload)) == (in_a_blob, not in_a_blob)
    assert row.size == letters + 2


@pytest.mark.parametrize(
    "key",
    ["k" * 5_000, "step:Ω_m \U0001f30c#0", "step:\0#0", "step:\ud800#0", "step:C:\\u0000#0", "é\\"],
    ids=["long", "unicode", "nul", "surrogate", "looks escaped", "backslash"],
)
def test_any_name_is_found_again(claim: Claim, key: str) -> None:
    record_batch(claim, [finished(key, usage=usage())])

    assert keys(claim) == [key]


def test_names_survive_whatever_they_are() -> None:
    chance = random.Random(7)
    for _ in range(2_000):
        key = "".join(chance.choices("\\u0041a\0\ud800\udfffé0", k=chance.randrange(12)))
        assert unescaped(escaped(key)) == key


def test_a_long_journal_is_read_in_order(claim: Claim) -> None:
    names = [f"m#{n}" for n in range(175)]
    for part in (names[:80], names[80:]):
        record_batch(claim, [finished(name) for name in part])

    assert keys(claim) == names


@pytest.mark.parametrize("cost", [None, 0.0, 7.5e-08, 0.1, 12.5])
def test_what_a_call_took_is_given_back(claim: Claim, cost: float | None) -> None:
    record_batch(claim, [finished("m#0", usage=usage(cost_usd=cost))])

    (entry,) = journal_of(claim.run_id)

    assert entry["usage"] == usage(cost_usd=cost)


def test_the_prompts_of_a_run_are_known_by_their_digests(claim: Claim) -> None:
    for agent, digest in [("engineer", "a" * 64), ("researcher", "b" * 64)]:
        prompt = {"agent": agent, "hash": digest, "text": "You are …"}
        record_batch(claim, [finished(f"prompt:{agent}#0", prompt, kind="prompt")])

    assert Run.objects.get().prompt_hashes == {"engineer": "a" * 64, "researcher": "b" * 64}


# -- what cannot be stored --------------------------------------------------------------------
@pytest.mark.parametrize(
    "call",
    [
        finished("bad#0", float("nan")),
        finished("bad#0", {"x": {1}}),
        finished("bad#0", usage=usage(cost_usd=float("inf"))),
        finished("bad#0", usage=usage(input_tokens=-1)),
        finished("bad#0", "no prompt", kind="prompt"),
        finished("once#0"),
    ],
    ids=["nan", "set", "cost", "tokens", "prompt", "twice"],
)
def test_an_entry_that_is_refused_fails_the_run(claim: Claim, call: Any) -> None:
    record_batch(claim, [finished("once#0")])

    with pytest.raises(EntryRefused):
        record_batch(claim, [said("before"), finished("good#0"), call, said("after")])

    run = Run.objects.get()
    assert (run.status, run.error_type, run.lease_owner) == ("failed", "journal_refused", "")
    assert call.entry["key"] in run.error_message
    assert keys(claim) == ["once#0", "good#0"]
    assert [kind for kind, _ in log_of(claim)] == ["agent_message", "run_failed"]
    with pytest.raises(LeaseLost):
        record_batch(claim, [said("later")])


def test_an_event_that_is_refused_does_not_take_its_entry_with_it(claim: Claim) -> None:
    def refuse(session_id: Any, events: list[EventData], **kw: Any) -> int:
        if any(isinstance(event, AgentMessage) for event in events):
            raise DataError("invalid text")
        return append_events(session_id, events, **kw)

    with mock.patch.object(batches_module, "append_events", refuse):
        record_batch(claim, [finished("m#0", "x", said("bad"), usage=usage())])

    assert keys(claim) == ["m#0"]
    assert log_of(claim) == [("error", None)]


# -- what can no longer be read ---------------------------------------------------------------
@pytest.mark.parametrize("harm", ["gone", "changed", "cut"])
def test_a_payload_that_cannot_be_read_is_named(claim: Claim, harm: str) -> None:
    record_batch(claim, [finished("first#0"), finished("big#0", "x" * ROW_BYTES)])
    blob = blob_path(JournalEntry.objects.get(key="big#0").payload_sha256)
    data = blob.read_bytes()
    blob.unlink()
    if harm != "gone":
        blob.write_bytes(json.dumps("other").encode() if harm == "changed" else data[:-1])
    entries = journal_of(claim.run_id)
    assert next(entries)["key"] == "first#0"

    with pytest.raises(JournalDamaged) as damaged:
        next(entries)

    failure = damaged.value.failure()
    assert (failure["error_type"], failure["key"]) == ("journal_damaged", "big#0")
    assert str(blob) not in json.dumps(failure)


# -- forgetting -------------------------------------------------------------------------------
def fail_at(claim: Claim, key: str) -> Run:
    failure = RunFailed(error_type="journal_mismatch", message="It changed.", retryable=True)
    ending = failed(failure, retry_from=key)
    release_run(claim, ending.to, ending.events, **ending.columns)
    return Run.objects.get(pk=claim.run_id)


STORY = [  # a call comes after the calls it made
    "say:a#0",
    "Step:b#0/model#0",
    "step:b#01",
    "step:b#0/model#0",
    "step:b#0/tool#0/model#0",
    "step:b#0/tool#0",
    "step:b#0",
    "step:c#0/model#0",
]


@pytest.mark.parametrize(
    ("key", "left"),
    [
        ("say:a#0", []),
        ("step:b#0", STORY[:3]),
        ("step:b#0/tool#0", STORY[:4]),
        ("step:c#0/model#0", STORY[:-1]),
        ("step:c#0", STORY),
        ("", STORY),
    ],
)
def test_a_retry_forgets_from_where_the_journal_does_not_fit(
    claim: Claim, alice: User, key: str, left: list[str]
) -> None:
    record_batch(claim, [finished(name, usage=usage()) for name in STORY])

    retry_run(fail_at(claim, key), by=alice)

    assert keys(claim) == left
    assert Usage.objects.count() == len(STORY), "the money was spent"
    assert Run.objects.get().retry_from == ""


def test_a_forgotten_call_may_be_made_again_and_is_paid_again(claim: Claim, alice: User) -> None:
    record_batch(claim, [finished("m#0", "old", usage=usage())])
    retry_run(fail_at(claim, "m#0"), by=alice)
    again = claim_run(owner="host:2", sandbox_level=1)
    assert again

    record_batch(again, [finished("m#0", "new", usage=usage())])

    assert [entry["payload"] for entry in journal_of(claim.run_id)] == ["new"]
    assert Usage.objects.filter(key="m#0").count() == 2
    assert again.spent == [usage()], "the engine is told: totals have it"


def test_steps_that_are_forgotten_wait_again(claim: Claim, alice: User) -> None:
    for n in (1, 2):
        done = StepCompleted(index=n, title="t", summary="s").in_step(str(n))
        record_batch(claim, [StepStarted(index=n, title="t")])
        record_batch(claim, [finished(f"step:t#{n}", None, done, kind="step")])

    retry_run(fail_at(claim, "step:t#2"), by=alice)

    steps = Step.objects.order_by("index").values_list("status", "attempts")
    assert list(steps) == [("completed", 1), ("pending", 1)]


def test_a_retry_of_anything_else_keeps_the_journal(claim: Claim, alice: User) -> None:
    record_batch(claim, [finished("m#0", "x", CostUpdate(**COST), usage=usage())])
    ending = failed(RunFailed(error_type="code_failed", message="It failed."))
    release_run(claim, ending.to, ending.events, **ending.columns)

    retry_run(Run.objects.get(), by=alice)

    assert keys(claim) == ["m#0"]


COST: dict[str, Any] = {
    "model": "gpt-4o",
    "input_tokens": 1,
    "output_tokens": 1,
    "cost_usd": None,
    "total_cost_usd": None,
}
