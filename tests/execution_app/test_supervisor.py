"""A supervisor and an engine: what is acknowledged is stored, in order, and nobody waits."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
from django.db import OperationalError, connection, transaction
from pytest_django import Settings
from structlog.testing import capture_logs

from execution_app import outbox, services
from execution_app.models import Run, Usage
from execution_app.services import Claim, Finished, record_batch
from sessions_app.models import Event
from tests.execution_app.scripted import keys_of, supervised

pytestmark = pytest.mark.django_db(transaction=True)
TOLD = "heard = hear()\nopen('acknowledged', 'w').write(str(heard))\n"


def log_of(claim: Claim) -> list[str]:
    """What the engine brought into the log: texts of its console, phases of its events."""
    events = Event.objects.filter(run_id=claim.run_id).order_by("seq")
    said = [event.data.get("text", event.data.get("phase", "")) for event in events]
    return [text for text in said if text]


# -- acknowledging ----------------------------------------------------------------------------
def acknowledged(claim: Claim) -> bool:
    return (services.work_dir(claim.session_id) / "acknowledged").exists()


@contextmanager
def database_busy(claim: Claim, look: Callable[[], None]) -> Iterator[None]:
    """Somebody else holds the run's row from the next batch on, for a moment."""
    held = threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Run.objects.select_for_update().get(pk=claim.run_id)
            held.set()
            time.sleep(0.7)
            look()
        connection.close()

    def record_late(*arguments: Any) -> None:
        if not held.is_set():
            thread.start()
            held.wait()
        record_batch(*arguments)

    thread = threading.Thread(target=hold)
    with mock.patch.object(services, "record_batch", record_late):
        yield
    thread.join()


def test_an_entry_is_acknowledged_when_it_is_committed_and_not_before(claim: Claim) -> None:
    seen = []
    with database_busy(claim, lambda: seen.append(acknowledged(claim))):
        run = supervised(claim, f"entry('a#0', 1)\n{TOLD}complete()")

    assert seen == [False]
    assert run.status == "completed"
    assert acknowledged(claim)
    assert keys_of(claim) == ["a#0"]


def test_a_database_that_went_away_acknowledges_nothing(claim: Claim) -> None:
    tries = []

    def away(*arguments: Any) -> None:
        tries.append(acknowledged(claim))
        if len(tries) < 4:
            raise OperationalError("the database system is shutting down")
        record_batch(*arguments)

    with mock.patch.object(services, "record_batch", away):
        run = supervised(claim, f"entry('a#0', 1)\n{TOLD}complete()")

    assert tries[:4] == [False] * 4
    assert (run.status, keys_of(claim)) == ("completed", ["a#0"])


def test_who_lost_the_run_acknowledges_nothing(claim: Claim) -> None:
    def steal(*arguments: Any) -> None:
        Run.objects.filter(pk=claim.run_id).update(attempt=7)
        record_batch(*arguments)

    with mock.patch.object(services, "record_batch", steal):
        supervised(claim, f"entry('a#0', 1)\n{TOLD}complete()")

    assert not acknowledged(claim)
    assert keys_of(claim) == []


def test_what_an_engine_told_before_it_died_is_stored(claim: Claim) -> None:
    usage = {
        "agent": "engineer",
        "provider": "openai",
        "model": "m",
        "input_tokens": 5,
        "output_tokens": 7,
        "cached_tokens": 0,
        "cost_usd": 0.25,
    }
    script = f"entry('a#0', 1, kind='model', usage={usage})\nos.kill(os.getpid(), signal.SIGKILL)"

    run = supervised(claim, script)

    assert (run.status, run.crashes, keys_of(claim)) == ("queued", 1, ["a#0"])
    assert Usage.objects.get(run=run).output_tokens == 7


PAID = {
    "agent": "engineer", "provider": "openai", "model": "m", "input_tokens": 5,
    "output_tokens": 7, "cached_tokens": 0, "cost_usd": 0.25,
}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("key", "key=''"),
        ("kind", "kind='seance'"),
        ("digest", "digest=None"),
        ("usage", "usage=[]"),
        ("usage", "usage={'agent': 'a'}"),
        ("usage", f"usage={PAID | {'output_tokens': 2**31}}"),
        ("usage", f"usage={PAID | {'cost_usd': -1}}"),
        ("events", "events=[5]"),
        ("events", "events=None"),
    ],
)
def test_an_entry_that_is_none_fails_the_run(claim: Claim, field: str, wrong: str) -> None:
    """Another attempt would pay for the same call, and be told the same."""
    fields = "{'key': 'a#0', 'payload': 'precious', 'kind': 'tool', 'digest': 'd', 'usage': None, 'events': []}"
    script = f"entry('good#0')\nsay(t='entry', **({fields} | dict({wrong})))\nhear()\n{TOLD}"
    with capture_logs() as logs:
        run = supervised(claim, f"{script}complete()")

    assert (run.status, run.error_type, run.crashes) == ("failed", "journal_refused", 0)
    assert f"its {field} is none" in run.error_message
    assert keys_of(claim) == ["good#0"], "what came before it stays"
    assert not acknowledged(claim)
    assert [log for log in logs if log["event"] == "entry_refused"]
    assert "precious" not in str(logs)


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"t": "entries"}'])
def test_a_line_that_is_no_message_is_a_crash(claim: Claim, line: bytes) -> None:
    with capture_logs() as logs:
        run = supervised(claim, f"channel.sendall({line!r} + b'\\n')\n{TOLD}complete()")

    assert (run.status, run.crashes) == ("queued", 1)
    assert [log for log in logs if log["event"] == "engine_not_understood"]


# -- order ------------------------------------------------------------------------------------
def test_what_was_printed_before_an_entry_is_stored_before_it(claim: Claim) -> None:
    supervised(
        claim,
        """
print("one", flush=True)
entry("a#0", 1, [event("two"), event("three")])
print("four", flush=True)
say(t="event", **event("five"))
print("six", flush=True)
entry("a#1", 2, [event("seven")])
hear(), hear()
complete()
""",
    )

    said = "".join(log_of(claim)).replace("\n", "")
    for earlier, later in (("one", "two"), ("four", "five"), ("six", "seven")):
        assert said.index(earlier) < said.index(later)
    assert said.index("two") < said.index("three") < said.index("five") < said.index("seven")
    assert keys_of(claim) == ["a#0", "a#1"]


def test_an_event_tells_its_step(claim: Claim) -> None:
    step = "dict(event('a') | {'step': '3'})"
    supervised(claim, f"say(t='event', **{step})\nentry('a#0', 1, [{step}])\nhear()\ncomplete()")

    steps = Event.objects.filter(run_id=claim.run_id, event_type="phase_changed")
    assert list(steps.values_list("step", flat=True)) == ["3", "3"]


# -- pace -------------------------------------------------------------------------------------
@pytest.fixture
def batches() -> Iterator[list[int]]:
    """How many entries each batch had."""
    sizes: list[int] = []

    def record(claim: Claim, items: list[Any], files: Any = ()) -> None:
        sizes.append(sum(isinstance(item, Finished) for item in items))
        record_batch(claim, items, files)

    with mock.patch.object(services, "record_batch", record):
        yield sizes


def test_an_entry_waits_for_no_gap(claim: Claim, batches: list[int]) -> None:
    with mock.patch.multiple(outbox, MIN_GAP_SECONDS=30.0, MAX_GAP_SECONDS=30.0):
        began = time.monotonic()
        run = supervised(
            claim, "for n in range(5):\n    entry(f'a#{n}', n)\n    hear()\ncomplete()"
        )

    assert run.status == "completed"
    assert time.monotonic() - began < 30
    assert [size for size in batches if size] == [1] * 5


def test_entries_of_many_branches_share_a_batch(claim: Claim, batches: list[int]) -> None:
    script = """
for n in range(300):
    entry(f"branch:{n}#0", n)
keys = [hear()["key"] for _ in range(300)]
complete(in_order=keys == [f"branch:{n}#0" for n in range(300)])
"""
    run = supervised(claim, script)

    assert run.result == {"in_order": True}
    assert sum(batches) == 300
    assert len(batches) < 100


# -- the journal of earlier attempts ----------------------------------------------------------
def remember(claim: Claim, payloads: list[Any]) -> None:
    for n, payload in enumerate(payloads):
        entry: Any = {
            "t": "entry",
            "key": f"tool:{n}#0",
            "kind": "tool",
            "digest": "d",
            "events": [],
        }
        record_batch(claim, [Finished(entry | {"payload": payload, "usage": None}, [])])
    claim.journal_entries = len(payloads)  # as the next claim would say


def test_a_journal_of_twenty_megabytes_is_handed_over_while_output_flows(
    claim: Claim, settings: Settings
) -> None:
    settings.LEASE_SECONDS = 2
    payloads = [
        {"n": n, "text": "µ\0\ud800" + "x" * (40_000 if n % 10 else 4_000_000)} for n in range(50)
    ]
    remember(claim, payloads)
    script = """
def talk():
    while not ended:
        print(time.time(), flush=True)
        time.sleep(0.02)
ended = []
talking = threading.Thread(target=talk)
talking.start()
entries = []
for n in range(start["journal_entries"]):
    beginning = lines.read(1_500_000) if n == 30 else b""
    time.sleep(4 if n == 30 else 0.02)
    entries.append(json.loads(beginning + lines.readline()))
finished = time.time()
ended.append(talking)
talking.join()
json.dump([each["payload"] for each in entries], open("journal.json", "w"))
complete(finished=finished, said=[{k: v for k, v in each.items() if k != "payload"} for each in entries[:1]])
"""
    with mock.patch.object(services, "renew_lease", wraps=services.renew_lease) as renew:
        run = supervised(claim, script)

    assert run.result is not None
    given = json.loads((services.work_dir(claim.session_id) / "journal.json").read_text())
    assert given == payloads
    assert run.result["said"][0] == {
        "t": "entry", "key": "tool:0#0", "kind": "tool", "digest": "d", "usage": None, "events": [],
    }  # fmt: skip
    output = Event.objects.filter(run_id=claim.run_id, event_type="output").order_by("seq")
    stored = [
        (event.created_at.timestamp(), float(event.data["text"].split()[0])) for event in output
    ]
    early = [at for at, _ in stored if at < run.result["finished"]]
    assert len(early) > 20, "the log grew while the engine read"
    assert max(at - said for at, said in stored) < 2.0
    assert renew.call_count > 3
    assert max(b - a for a, b in pairwise(early)) < 2.0


def test_a_database_that_goes_away_while_the_journal_is_read(claim: Claim) -> None:
    remember(claim, list(range(120)))
    real, failures = services.journal_of, iter([True, True])

    def breaking(run_id: Any) -> Iterator[Any]:
        for n, entry in enumerate(real(run_id)):
            if n in {30, 70} and next(failures, False):
                raise OperationalError("gone")
            yield entry

    with mock.patch.object(services, "journal_of", breaking):
        run = supervised(claim, "complete(got=[hear()['payload'] for _ in range(120)])")

    assert run.result == {"got": list(range(120))}
