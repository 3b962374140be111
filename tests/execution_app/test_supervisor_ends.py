"""How a supervisor ends an engine, and what is still heard of it."""

from __future__ import annotations

import threading
import time
from typing import Any
from unittest import mock

import pytest
from pytest_django import Settings
from structlog.testing import capture_logs

from cmbagent.forking import build_id
from execution_app import control, services, supervisor
from execution_app.engine_starts import TEMPLATE_BUILD
from execution_app.process_tree import tree_members
from execution_app.services import Claim, Requests
from sessions_app.models import Event
from tests.deployment import wait_until
from tests.execution_app.scripted import keys_of, supervised

pytestmark = pytest.mark.django_db(transaction=True)


def asking(*, cancel: bool = False, pause: bool = False) -> Any:
    """What people ask of the run, each time the supervisor looks."""
    requests = Requests(cancel=cancel, pause=pause, by="alice")
    return mock.patch.object(services, "renew_lease", return_value=requests)


HALTING = """
assert hear() == {"t": "halt"}
entry("model#0", "paid", kind="model")
assert hear()["t"] == "stored"
say(t="outcome", kind="interrupted", reason="halted")
"""


@pytest.fixture
def _short_lease(settings: Settings) -> None:
    settings.LEASE_SECONDS = 1


@pytest.mark.usefixtures("_short_lease")
def test_paused_it_brings_home_what_the_model_answered(claim: Claim) -> None:
    with asking(pause=True):
        run = supervised(claim, HALTING)

    assert (run.status, keys_of(claim)) == ("paused", ["model#0"])


def test_drained_too_and_nothing_is_counted(claim: Claim) -> None:
    draining = threading.Timer(0.5, control.drain_supervisors)
    draining.start()
    run = supervised(claim, HALTING)

    assert (run.status, run.interruption, run.crashes) == ("queued", "worker_drained", 0)
    assert keys_of(claim) == ["model#0"]


@pytest.mark.usefixtures("_short_lease")
def test_who_does_not_halt_is_stopped(claim: Claim) -> None:
    with asking(pause=True), mock.patch.object(supervisor, "HALT_SECONDS", 0.5):
        began = time.monotonic()
        run = supervised(claim, "signal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)")

    assert run.status == "paused"
    assert time.monotonic() - began < 20


@pytest.mark.usefixtures("_short_lease")
def test_cancelled_it_waits_for_no_model(claim: Claim) -> None:
    with asking(cancel=True, pause=True):
        began = time.monotonic()
        run = supervised(claim, "time.sleep(600)")

    assert run.status == "cancelled"
    assert time.monotonic() - began < supervisor.HALT_SECONDS


def while_looking(claim: Claim, **asked: bool) -> Any:
    """The engine does what it does and ends, while the supervisor asks the database what people
    want of the run."""

    def look(_: Claim) -> Requests:
        folder = services.work_dir(claim.session_id)
        (folder / "looking").touch()
        wait_until((folder / "pid").exists, within=30, what="the engine")
        pid = int((folder / "pid").read_text())
        wait_until(lambda: not tree_members(pid), within=30, what="the end of the engine")
        return Requests(**({"cancel": False, "pause": False} | asked), by="alice")

    return mock.patch.object(services, "renew_lease", look)


UNSEEN = """
while not os.path.exists("looking"):
    time.sleep(0.01)
{said}
channel.close(), lines.close()
open(".pid", "w").write(str(os.getpid()))
os.rename(".pid", "pid")
"""


@pytest.mark.usefixtures("_short_lease")
def test_an_engine_that_has_just_ended_is_heard_though_nobody_reads_the_halt(claim: Claim) -> None:
    with while_looking(claim, pause=True):
        run = supervised(claim, UNSEEN.format(said="complete()"))

    assert run.status == "completed"


@pytest.mark.usefixtures("_short_lease")
def test_what_was_paid_before_a_cancel_is_counted(claim: Claim) -> None:
    with while_looking(claim, cancel=True):
        run = supervised(claim, UNSEEN.format(said='entry("model#0", 1, kind="model")'))

    assert (run.status, keys_of(claim)) == ("cancelled", ["model#0"])


# -- another build ----------------------------------------------------------------------------
def test_no_engine_of_another_build_is_started(
    claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade under a running server: the run waits until somebody restarts it."""
    monkeypatch.setenv(TEMPLATE_BUILD, "of yesterday")
    with capture_logs() as logs:
        run = supervised(claim, "complete()")

    assert (run.status, run.crashes, run.postponements) == ("queued", 0, 1)
    [waiting] = Event.objects.filter(run_id=run.pk, event_type="run_postponed")
    assert waiting.data["error_type"] == "server_upgraded"
    [told] = [log for log in logs if log["event"] == "build_changed"]
    assert "restart" in told["error"]


def test_an_engine_of_our_build_is_started(claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TEMPLATE_BUILD, build_id())
    assert supervised(claim, "complete()").status == "completed"
