"""Large answers lie in the blob store as long as a journal names them, and no longer."""

from __future__ import annotations

import os
import resource
import time
import uuid
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import Settings

from execution_app.models import Artifact, JournalEntry, Run, Step, Usage
from execution_app.services import (
    Claim,
    FoundFile,
    claim_run,
    journal_of,
    record_batch,
    release_run,
    retry_run,
)
from execution_app.services.files import blob_path, store_blob
from execution_app.services.journal import ROW_BYTES
from execution_app.services.outcomes import failed
from execution_app.services.retention import count_runs, erase_runs, sweep_blobs
from sessions_app.event_types import RunFailed, StepStarted
from sessions_app.models import Session
from tests.conftest import MakeRun, MakeSession
from tests.execution_app.making import finished, usage

pytestmark = pytest.mark.django_db
LARGE = "x" * ROW_BYTES


@pytest.fixture
def claim(alice: User, make_session: MakeSession, make_run: MakeRun) -> Claim:
    make_run(make_session(alice), status="queued")
    claimed = claim_run(owner="host:1", sandbox_level=1)
    assert claimed is not None
    return claimed


def fail(claim: Claim, retry_from: str = "") -> Run:
    ending = failed(RunFailed(error_type="x", message="x"), retry_from=retry_from)
    release_run(claim, ending.to, ending.events, **ending.columns)
    return Run.objects.get(pk=claim.run_id)


def aged(key: str, *, run: Run | None = None) -> Path:
    """The blob of an entry, as if written yesterday."""
    entries = JournalEntry.objects.filter(key=key, **({"run": run} if run else {}))
    path = blob_path(entries[0].payload_sha256)
    os.utime(path, (time.time() - 86_400,) * 2)
    return path


def deleted(session_id: uuid.UUID) -> Session:
    Session.objects.filter(pk=session_id).update(deleted_at=timezone.now())
    return Session.objects.get(pk=session_id)


def test_of_what_finds_no_room_nothing_is_left(settings: Settings) -> None:
    store_blob(b"what was there before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROW_BYTES, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            store_blob(b"x" * (ROW_BYTES + 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    left = [path for path in Path(settings.BLOBS_DIR).rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in left] == [b"what was there before"]


def test_what_a_journal_names_is_not_swept(claim: Claim) -> None:
    record_batch(claim, [finished("m#0", LARGE)])
    path = aged("m#0")

    assert sweep_blobs() == 0

    assert path.exists()
    assert [entry["payload"] for entry in journal_of(claim.run_id)] == [LARGE]


def test_what_a_retry_forgot_is_swept(claim: Claim, alice: User) -> None:
    record_batch(claim, [finished("m#0", LARGE), finished("m#1", LARGE + "y")])
    kept, gone = aged("m#0"), aged("m#1")

    retry_run(fail(claim, "m#1"), by=alice)

    assert sweep_blobs(dry_run=True) == len(LARGE) + 3
    assert sweep_blobs() == len(LARGE) + 3
    assert (kept.exists(), gone.exists()) == (True, False)


def test_what_is_written_for_a_batch_under_way_is_not_swept(claim: Claim) -> None:
    record_batch(claim, [finished("m#0", LARGE)])
    path = blob_path(JournalEntry.objects.get().payload_sha256)
    JournalEntry.objects.all().delete()  # as if its row were not committed yet

    assert sweep_blobs() == 0
    assert path.exists()


def test_a_session_goes_with_all_that_its_runs_remember(claim: Claim) -> None:
    begun = StepStarted(index=1, title="x")
    large = [finished(f"m#{n}", LARGE + str(n), usage=usage()) for n in range(3)]
    record_batch(claim, [begun, finished("small#0"), *large])
    paths = [aged(f"m#{n}") for n in range(3)]
    fail(claim)
    session = deleted(claim.session_id)
    would_go = count_runs(session)

    removed = erase_runs(session)

    assert removed == would_go
    assert (removed.runs, removed.files, removed.bytes) == (1, 0, 3 * (ROW_BYTES + 3))
    assert not any(path.exists() for path in paths)
    assert [kind for kind in (Run, Step, Usage, JournalEntry) if kind.objects.exists()] == []


def test_what_another_run_remembers_too_stays(
    claim: Claim, alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    other = make_run(make_session(alice), status="queued")
    again = claim_run(owner="host:2", sandbox_level=1)
    assert again
    for each in (claim, again):
        record_batch(each, [finished("m#0", LARGE)])
    path = aged("m#0", run=other)
    fail(claim)

    removed = erase_runs(deleted(claim.session_id))

    assert removed.bytes == 0
    assert path.exists()
    assert [entry["payload"] for entry in journal_of(other.pk)] == [LARGE]


def test_a_file_with_the_same_bytes_keeps_them(claim: Claim) -> None:
    record_batch(claim, [finished("m#0", LARGE)])
    path = aged("m#0")
    same = FoundFile("same.json", "data", "application/json", len(LARGE) + 2, path.name)
    record_batch(claim, [], [same])
    JournalEntry.objects.all().delete()

    assert sweep_blobs() == 0
    Artifact.objects.all().delete()
    assert sweep_blobs() == len(LARGE) + 2
    assert not path.exists()
