"""Programs that tests run as processes of their own, to kill them: `python -m tests.programs …`.

* log-writer SESSION NUMBER FILE: appends events for ever; notes in FILE what was confirmed
* run-writer OWNER FILE: claims a run and records batches for ever
* journal-writer FILE: goes on with one run after whoever was killed, finishing calls for ever
* stress ACTION SECONDS: one actor of the deadlock test
"""

# ruff: noqa: E402  Django must be set up before its models are imported

from __future__ import annotations

import os
import random
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cmbagent_site.settings")

import django

django.setup()

from django.contrib.auth.models import User
from django.db import OperationalError, connection

from execution_app import control
from execution_app.errors import ExecutionError, LeaseLost
from execution_app.models import Run
from execution_app.patience import AWAY
from execution_app.services import (
    Claim,
    cancel_run,
    claim_run,
    pause_run,
    reap_runs,
    record_batch,
    release_dead_supervisor,
    release_run,
    renew_lease,
    resume_run,
    retry_run,
    start_run,
)
from execution_app.statuses import RunStatus
from sessions_app.event_types import Output, StepCompleted, StepStarted
from sessions_app.services import append_events
from tests.execution_app.making import finished, usage


def line(writer: str, number: int) -> Output:
    return Output(stream="stdout", line=number, text=f"{writer}:{number}\n")


def write_log(session: str, writer: str, file: str) -> None:
    """Batches of 1 to 20 events; each batch is noted once it is confirmed."""
    rng = random.Random(writer)
    number = 0
    with Path(file).open("a", buffering=1) as confirmed:
        while True:
            batch = [line(writer, number + i) for i in range(1, rng.randint(1, 20) + 1)]
            append_events(uuid.UUID(session), batch)
            number += len(batch)
            confirmed.write(f"{number}\n")


def write_run(owner: str, file: str) -> None:
    """A supervisor reduced to its writing: claims one run, then batches until it is fenced."""
    claim = None
    while claim is None:
        claim = claim_run(owner=owner, sandbox_level=1)
        time.sleep(0.01)
    with Path(file).open("a", buffering=1) as told:
        told.write(f"claimed {claim.attempt}\n")
        number = 0
        try:
            while True:
                if not store_patiently(claim, line(f"{owner}.{claim.attempt}", number + 1)):
                    continue
                number += 1
                told.write(f"stored {number}\n")
                time.sleep(0.005)
        except LeaseLost:
            told.write("fenced\n")


def store_patiently(claim: Claim, event: Output) -> bool:
    """As a supervisor does: PostgreSQL ends a transaction that was frozen; ask again."""
    try:
        record_batch(claim, [event])
    except AWAY:
        connection.close()
        return False
    return True


# -- the journal ------------------------------------------------------------------------------
def write_journal(file: str) -> None:
    """Each call is noted once it is acknowledged; its large answers go to blobs."""
    pid = 4711  # each is the same supervisor, whose process is gone
    release_dead_supervisor(pid)
    claim = claim_run(owner=control.owner_name(pid), sandbox_level=1)
    assert claim is not None
    number = claim.journal_entries
    with Path(file).open("a", buffering=1) as acknowledged:
        while True:
            answer = f"{number}:" + "x" * random.choice([10, 70_000])
            told = [StepStarted(index=number, title="x"), line("call", number)]
            done = StepCompleted(index=number, title="x").in_step(str(number))
            record_batch(claim, [*told, finished(f"call#{number}", answer, done, usage=usage())])
            acknowledged.write(f"{number}\n")
            number += 1


# -- the deadlock test ------------------------------------------------------------------------
def claim_and_record(deadline: float, owner: str) -> int:
    done = 0
    while time.monotonic() < deadline:
        claim = claim_run(owner=owner, sandbox_level=1)
        if claim is not None:
            done += _use(claim)
    return done


def _use(claim: Claim) -> int:
    try:
        for number in range(5):
            record_batch(claim, [line("stress", number + 1)])
            if renew_lease(claim).cancel:
                release_run(claim, RunStatus.CANCELLED)
                return number
        release_run(claim, RunStatus.FAILED)
    except LeaseLost:
        pass
    return 5


def meddle(deadline: float) -> int:
    """Everything that people may ask of runs, at random."""
    by, done = User.objects.get(username="alice"), 0
    rng = random.Random(os.getpid())
    asks: list[Callable[[Run], object]] = [
        lambda run: cancel_run(run, by=by),
        lambda run: pause_run(run, by=by),
        lambda run: resume_run(run, by=by),
        lambda run: retry_run(run, by=by),
        lambda run: start_run(session=run.session, task="x", on_busy="interrupt", by=by),
    ]
    while time.monotonic() < deadline:
        for run in Run.objects.select_related("session").order_by("?")[:20]:
            try:
                rng.choice(asks)(run)
                done += 1
            except ExecutionError:
                continue
    return done


def reap(deadline: float) -> int:
    """Takes back what lapsed, and by mistake what did not: the fence must hold."""
    done = 0
    while time.monotonic() < deadline:
        Run.objects.filter(status="running").update(lease_expires_at="2020-01-01T00:00Z")
        done += reap_runs()
        time.sleep(0.05)
    return done


def stress(action: str, seconds: str) -> None:
    """Prints how much was done; an OperationalError (a deadlock, a lock timeout) ends it loudly."""
    deadline = time.monotonic() + float(seconds)
    try:
        if action in ACTORS:
            done = ACTORS[action](deadline)
        else:
            done = claim_and_record(deadline, owner=action)
    except OperationalError as error:
        sys.exit(f"{action}: {error}")
    sys.stdout.write(f"{done}\n")


ACTORS: dict[str, Callable[[float], int]] = {"meddle": meddle, "reap": reap}
PROGRAMS: dict[str, Callable[..., None]] = {
    "journal-writer": write_journal,
    "log-writer": write_log,
    "run-writer": write_run,
    "stress": stress,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
