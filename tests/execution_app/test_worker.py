"""What keeps a supervisor from its work: told apart, and said to the people whose run it is."""

from __future__ import annotations

import errno
import os
import subprocess
from unittest import mock

import pytest
from django.contrib.auth.models import User
from structlog.testing import capture_logs

from execution_app.models import Run
from execution_app.services import Claim, claim_run
from tests.conftest import MakeRun, MakeSession
from tests.execution_app.scripted import supervised

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def claim(alice: User, make_session: MakeSession, make_run: MakeRun) -> Claim:
    make_run(make_session(alice), status="queued")
    claimed = claim_run(owner="host:1", sandbox_level=1)
    assert claimed is not None
    return claimed


def hindered(claim: Claim, error: OSError) -> Run:
    with mock.patch.object(subprocess, "Popen", side_effect=error):
        return supervised(claim, "complete()")


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_an_engine_that_cannot_be_started_now_is_started_later(claim: Claim, number: int) -> None:
    run = hindered(claim, OSError(number, os.strerror(number)))

    assert (run.status, run.crashes, run.postponements) == ("queued", 0, 1)
    assert run.not_before is not None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EIO, os.strerror(errno.EIO)),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/sessions/x"),
    ],
    ids=["full", "broken", "closed"],
)
def test_files_that_cannot_be_kept_fail_the_run(claim: Claim, error: OSError) -> None:
    run = hindered(claim, error)

    assert (run.status, run.error_type, run.error_retryable) == ("failed", "server_storage", True)
    assert "/data" not in run.error_message, "no path of the server"


def test_what_is_neither_is_a_crash(claim: Claim) -> None:
    run = hindered(claim, ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    assert (run.status, run.crashes) == ("queued", 1)
    assert run.interruption == "supervisor_failed: ConnectionResetError"


def test_an_entry_that_is_refused_is_logged_once(claim: Claim) -> None:
    with capture_logs() as lines:
        run = supervised(claim, "entry('p#0', 'no prompt', kind='prompt')\nhear()")

    assert run.error_type == "journal_refused"
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["entry_refused"]
    assert "lease_lost" not in [line["event"] for line in lines]
