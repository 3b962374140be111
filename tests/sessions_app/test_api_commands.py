"""create_token, sign_in_link, cleanup_sessions."""

from __future__ import annotations

import io
import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from execution_app.models import Artifact, Run
from execution_app.services import (
    artifact_file,
    delete_session,
    record_artifacts,
    session_folder,
    store_bytes,
    store_upload,
    work_dir,
)
from sessions_app import event_types
from sessions_app.models import Event, IdempotencyKey, PasswordTry, Session, SignInLink
from sessions_app.services import append_events, create_sign_in_link
from tests.api_client import ApiClient, answer
from tests.conftest import MakeRun, MakeSession


def _said(*command: str) -> str:
    out = io.StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


# -- ways in ----------------------------------------------------------------------------------
def test_create_token_prints_a_token_and_nothing_else(alice: User) -> None:
    said = _said("create_token", "alice")
    token = said.removesuffix("\n")
    assert token == said.strip()
    assert " " not in token
    answer(ApiClient(token).get("/api/sessions"))


def test_a_sign_in_link_signs_in_once(client: Client, db: None, settings: Settings) -> None:
    User.objects.create_user("admin")
    said = _said("sign_in_link")
    assert said.startswith(f"{settings.PUBLIC_URL}/")
    assert said.count("\n") == 1
    token = said.strip().partition("?token=")[2]
    client.post("/sign-in/link/", {"token": token})
    assert answer(client.get("/api/sessions"))["total"] == 0


@pytest.mark.parametrize("command", ["create_token", "sign_in_link"])
def test_nobody_by_that_name(db: None, command: str) -> None:
    User.objects.create_user("gone", is_active=False)
    for name in ("nobody", "gone"):
        with pytest.raises(CommandError, match=name):
            _said(command, name)


# -- clean-up ---------------------------------------------------------------------------------
@pytest.fixture
def full(alice: User, make_session: MakeSession, make_run: MakeRun) -> Session:
    """A session with events, a run, a file it made, an upload and a work directory."""
    session = make_session(alice)
    run = make_run(session)
    said = [event_types.UserMessage(content=str(n)) for n in range(5000)]
    append_events(session.pk, said, run_id=run.pk)
    record_artifacts(session.pk, run.pk, [store_bytes("plot.png", b"plot of " + session.pk.bytes)])
    store_upload(session, name="in.csv", chunks=[b"shared"], by=alice)
    (work_dir(session.pk) / "left").write_text("behind")
    return session


def test_what_was_deleted_is_removed_and_nothing_else(
    full: Session, alice: User, make_session: MakeSession
) -> None:
    other = make_session(alice)
    kept = store_upload(other, name="same.csv", chunks=[b"shared"], by=alice)
    plot = artifact_file(Artifact.objects.get(path="plot.png"))
    delete_session(full, by=alice)
    said = _said("cleanup_sessions", "--deleted-before", "0s")
    assert said.startswith("Removed 1 deleted sessions with 5,003 events, 1 runs and 2 files (")
    assert list(Session.objects.all()) == [other]
    assert not Event.objects.exclude(session=other).exists()
    assert not Run.objects.exists()
    assert list(Artifact.objects.all()) == [kept]
    assert artifact_file(kept).read_bytes() == b"shared"
    assert not plot.exists()
    assert not session_folder(full.pk).exists()


def test_a_dry_run_removes_nothing(full: Session, alice: User) -> None:
    delete_session(full, by=alice)
    said = _said("cleanup_sessions", "--deleted-before", "0s", "--dry-run")
    assert said.startswith("Would remove 1 deleted sessions with 5,003 events, 1 runs and 2 files")
    assert Event.objects.count() == 5003
    assert artifact_file(Artifact.objects.get(path="plot.png")).exists()
    assert session_folder(full.pk).exists()


def test_what_was_deleted_lately_waits(full: Session, alice: User) -> None:
    delete_session(full, by=alice)
    assert _said("cleanup_sessions").startswith("Removed 0 deleted")
    Session.objects.update(deleted_at=timezone.now() - timedelta(days=8))
    assert _said("cleanup_sessions", "--deleted-before", "7d").startswith("Removed 1 deleted")


def test_a_run_that_is_being_stopped_is_waited_for(
    alice: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    run = make_run(session, status="running")
    delete_session(session, by=alice)
    said = _said("cleanup_sessions", "--deleted-before", "0s")
    assert said.endswith("1 more wait until their runs are stopped.\n")
    assert Run.objects.filter(pk=run.pk).exists()


def test_code_cannot_leave_a_folder_that_cannot_be_removed(
    full: Session, alice: User, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    folder = work_dir(full.pk)
    (folder / "link").symlink_to(tmp_path)
    closed = folder / "closed"
    closed.mkdir()
    (closed / "file").write_text("x")
    closed.chmod(0)
    deep = folder
    for _ in range(40):
        deep /= "d" * 90
        deep.mkdir()
    delete_session(full, by=alice)
    _said("cleanup_sessions", "--deleted-before", "0s")
    assert not session_folder(full.pk).exists()
    assert outside.read_text() == "mine"


def test_what_is_spent_goes_too(alice: User, settings: Settings) -> None:
    create_sign_in_link(alice)
    for age in (1, 25):
        IdempotencyKey.objects.create(
            user=alice,
            key=f"k{age}",
            method="POST",
            path="/",
            body_digest="",
            created_at=timezone.now() - timedelta(hours=age),
        )
    for minutes in (1, 11):
        at = timezone.now() - timedelta(minutes=minutes)
        PasswordTry.objects.create(name_digest="", address=str(minutes), created_at=at)
    _said("cleanup_sessions")
    assert [old.address for old in PasswordTry.objects.all()] == ["1"]
    assert SignInLink.objects.count() == 1
    assert [key.key for key in IdempotencyKey.objects.all()] == ["k1"]
    SignInLink.objects.update(used_at=timezone.now())
    _said("cleanup_sessions")
    assert not SignInLink.objects.exists()


def test_bytes_that_nothing_names_go_when_they_are_old(
    alice: User, make_session: MakeSession, settings: Settings
) -> None:
    kept = artifact_file(store_upload(make_session(alice), name="a", chunks=[b"1"], by=alice))
    old, young = (Path(settings.BLOBS_DIR) / name for name in ("new.old", "new.young"))
    for path in (old, young):
        path.write_bytes(b"half")
    for path in (old, kept):
        os.utime(path, (0, 0))
    _said("cleanup_sessions")
    assert (kept.exists(), old.exists(), young.exists()) == (True, False, True)


@pytest.mark.parametrize("span", ["", "7", "d", "-1d", "1w", "soon"])
def test_a_time_span_that_is_none(db: None, span: str) -> None:
    with pytest.raises(CommandError, match="time span"):
        _said("cleanup_sessions", f"--deleted-before={span}")
