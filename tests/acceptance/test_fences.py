"""One engine at a time: stale holders are refused, repairs and holders never deadlock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.kills import KNOWN, TASK, attempts_of, check_log, lines_of
from tests.deployment import BASE_DIR, Deployment, find, wait_until

pytestmark = pytest.mark.acceptance
SHORT_LEASE = {"CMBAGENT_LEASE_SECONDS": "2"}

MAKE_RUNS = """
import sys
from django.contrib.auth.models import User
from execution_app.services import start_run
from sessions_app.services import create_session
alice = User.objects.get(username="alice")
runs = [
    start_run(session=create_session(owner=alice, mode="one-shot"), task="x", by=alice)
    for _ in range({count})
]
sys.stdout.write(" ".join(str(run.pk) for run in runs))
"""


REAP = (
    "from execution_app.services import reap_runs; import sys; sys.stdout.write(str(reap_runs()))"
)


def program(database: Deployment, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.programs", *arguments],
        cwd=BASE_DIR,
        env=database.env | SHORT_LEASE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.timeout(120)
def test_a_frozen_holder_is_refused_when_it_wakes(database: Deployment) -> None:
    """SIGSTOP for longer than a lease; another claims; what the first writes then is refused."""
    run = database.python(MAKE_RUNS.format(count=1))
    first_file, second_file = database.folder / "first", database.folder / "second"
    first = program(database, "run-writer", "first", str(first_file))
    wait_until(lambda: len(told(first_file)) > 5, within=20, what="the first holder's batches")
    database.freeze(first.pid)
    stored_before = told(first_file)

    time.sleep(2.5)
    # again and again, as a worker host does: frozen inside a transaction, the first holds the
    # row until PostgreSQL ends that
    wait_until(lambda: database_python(database, REAP) == "1", within=30, what="the reaper's turn")
    second = program(database, "run-writer", "second", str(second_file))
    wait_until(lambda: len(told(second_file)) > 5, within=20, what="the second holder's batches")
    first.send_signal(signal.SIGCONT)

    first.communicate(timeout=20)
    second.kill()
    second.communicate(timeout=10)
    assert first.returncode == 0
    assert told(first_file)[-1] == "fenced"
    assert len(told(first_file)) <= len(stored_before) + 2, "nothing was stored after it woke"
    assert told(second_file)[0] == "claimed 3", "each claim and each repair is one attempt more"
    texts = [text for _, text in database.logged_lines(session_of(database, run)) if text]
    assert texts == sorted(texts, key=lambda text: text.split(".")[0] != "first")


def database_python(database: Deployment, code: str) -> str:
    database.env |= SHORT_LEASE
    return database.python(code)


def session_of(database: Deployment, run: str) -> str:
    return database.python(
        "import sys; from execution_app.models import Run; "
        f"sys.stdout.write(str(Run.objects.get(pk='{run}').session_id))"
    )


@pytest.mark.timeout(120)
def test_cancel_record_and_claim_never_deadlock(database: Deployment) -> None:
    database.python(MAKE_RUNS.format(count=6))
    actors = ["meddle", "meddle", "reap", "one", "two", "three", "four"]

    processes = [program(database, "stress", actor, "6") for actor in actors]
    outputs = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0] * len(actors), outputs
    done = [int(out) for out, _ in outputs]
    assert sum(done[:2]), "people got their turns"
    assert done[2], "so did the reaper"
    assert sum(done[3:]), "and the workers"
    rows = database.query(
        "SELECT session_id, count(*), max(seq) FROM sessions_app_event GROUP BY 1"
    )
    assert all(count == last for _, count, last in rows), "numbers stayed dense"


@pytest.mark.timeout(180)
def test_a_frozen_supervisor_loses_its_run_and_its_engine(
    servers: dict[str, object], shape: str
) -> None:
    with Deployment.running(shape, env=SHORT_LEASE, **servers) as house:  # type: ignore[arg-type]
        run = house.start_run(TASK.replace("0.025", "0.1"))
        engine = house.engine_of(run)
        supervisor = house.worker_of(run)
        time.sleep(1)
        house.freeze(supervisor)

        wait_until(
            lambda: [e for e in find(f"cmbagent engine {run}") if e != engine],
            within=30,
            what="another engine",
        )
        assert engine not in find(f"cmbagent engine {run}"), "the first was ended before"
        os.kill(supervisor, signal.SIGCONT)
        house.wait_for(run, "completed")

        events = house.events_of(run)
        check_log(events)
        assert lines_of(attempts_of(events)[-1]) == KNOWN
