"""Promise 2, its floor: a finished call, what it took, its step and its events are one fact."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.test_log_survives_kills import RUNS
from tests.deployment import BASE_DIR, Deployment, wait_until

pytestmark = pytest.mark.acceptance
KILLS = 5
SEED = 20_261_122


def acknowledged(file: Path) -> int:
    """How many calls somebody was told are stored (a torn last line does not count)."""
    whole = file.read_text().rpartition("\n")[0].split() if file.exists() else []
    return int(whole[-1]) + 1 if whole else 0


def _has_passed(file: Path, number: int) -> bool:
    return acknowledged(file) > number


@pytest.mark.timeout(300)
def test_supervisors_killed_at_any_moment_leave_whole_facts(database: Deployment) -> None:
    database.python(RUNS.format(writers=1))
    file, rng = database.folder / "acknowledged", random.Random(SEED)
    for _ in range(KILLS):
        enough = acknowledged(file) + 2
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.programs", "journal-writer", str(file)],
            cwd=BASE_DIR,
            env=database.env,
        )
        wait_until(partial(_has_passed, file, enough), within=60, what="calls")
        time.sleep(rng.uniform(0.0, 0.2))
        writer.kill()
        writer.wait(10)
        look_at(database, acknowledged(file))


def look_at(database: Deployment, told: int) -> None:
    entries = database.query(
        "SELECT e.key, e.payload_sha256, u.key, u.input_tokens FROM execution_app_journalentry e "
        "LEFT JOIN execution_app_usage u ON u.entry_id = e.id ORDER BY e.id"
    )
    names = [key for key, *_ in entries]
    assert names == [f"call#{n}" for n in range(len(names))], "each once, in order"
    assert told <= len(names) <= told + 1, "all that was acknowledged, at most one more"
    assert [(key, tokens) for _, _, key, tokens in entries] == [(name, 100) for name in names]
    blobs = database.folder / "data" / "blobs"
    assert all((blobs / sha[:2] / sha).exists() for _, sha, *_ in entries if sha)
    (paid,) = database.query("SELECT count(*) FROM execution_app_usage")
    assert paid == (len(names),), "nothing is paid twice"
    steps = database.query("SELECT status, attempts FROM execution_app_step ORDER BY id")
    assert steps == [("completed", 1)] * len(names)
    (events,) = database.query(
        "SELECT count(*) FROM sessions_app_event WHERE event_type = 'step_completed'"
    )
    assert events == (len(names),)
