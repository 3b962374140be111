"""Promise 1: dense numbers, every confirmed event, nothing foreign, whoever is killed when."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deployment import BASE_DIR, Deployment, wait_until

pytestmark = pytest.mark.acceptance
WRITERS = 8
SEED = 20_261_122


def start_writer(database: Deployment, session: str, writer: int) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-m", "tests.programs", "log-writer", session, f"w{writer}"]
    with (database.folder / "writers.log").open("ab") as log:
        return subprocess.Popen(
            [*program, str(database.folder / f"confirmed-{writer}")],
            cwd=BASE_DIR,
            env=database.env,
            stderr=log,
            stdout=log,
        )


def make_session(database: Deployment) -> str:
    return database.python(
        "from django.contrib.auth.models import User;"
        "from sessions_app.services import create_session;"
        "alice = User.objects.get(username='alice');"
        "import sys; sys.stdout.write(str(create_session(owner=alice, mode='one-shot').pk))"
    )


def confirmed_by(database: Deployment, writer: int) -> int:
    """The last number that the writer was told is stored (a torn last line does not count)."""
    file = database.folder / f"confirmed-{writer}"
    whole = file.read_text().rpartition("\n")[0].split() if file.exists() else []
    return int(whole[-1]) if whole else 0


@pytest.mark.timeout(180)
def test_eight_writers_killed_at_any_moment(database: Deployment) -> None:
    session = make_session(database)
    rng = random.Random(SEED)
    writers = {n: start_writer(database, session, n) for n in range(WRITERS)}
    while not all(confirmed_by(database, n) for n in range(WRITERS)):
        time.sleep(0.05)
        assert all(p.poll() is None for p in writers.values()), _log(database)

    for n in rng.sample(range(WRITERS), WRITERS):
        time.sleep(rng.uniform(0.05, 0.3))
        writers[n].kill()
        writers[n].wait(10)

    rows = database.logged_lines(session)
    assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1)), "numbers are dense"
    for n in range(WRITERS):
        numbers = [int(t.split(":")[1]) for _, t in rows if t.startswith(f"w{n}:")]
        assert numbers == list(range(1, len(numbers) + 1)), f"writer {n}: all of its own, in order"
        assert len(numbers) >= confirmed_by(database, n), f"writer {n}: all it was promised"
        assert len(numbers) <= confirmed_by(database, n) + 20, "at most the batch in flight more"


@pytest.mark.timeout(180)
def test_eight_supervisors_killed_while_they_record_batches(database: Deployment) -> None:
    """Each holds a run of its own by lease and fence; what it was told is stored, is stored."""
    runs = database.python(RUNS.format(writers=WRITERS)).split()
    files = [database.folder / f"told-{n}" for n in range(WRITERS)]
    writers = [start_run_writer(database, f"w{n}", file) for n, file in enumerate(files)]
    wait_until(lambda: all(stored(file) > 3 for file in files), within=60, what="all writers")
    rng = random.Random(SEED)

    for n in rng.sample(range(WRITERS), WRITERS):
        time.sleep(rng.uniform(0.05, 0.3))
        writers[n].kill()
        writers[n].wait(10)

    texts = sorted(t for run in runs for t in database.run_lines(run))
    for n, file in enumerate(files):
        numbers = sorted(int(t.split(":")[1]) for t in texts if t.startswith(f"w{n}."))
        assert numbers == list(range(1, len(numbers) + 1)), f"writer {n}: all of its own, once"
        assert stored(file) <= len(numbers) <= stored(file) + 1, f"writer {n}: all it was promised"
    for (last,) in database.query(
        "SELECT max(seq) - count(*) FROM sessions_app_event GROUP BY session_id"
    ):
        assert last == 0, "numbers are dense in every session"


RUNS = """
import sys
from django.contrib.auth.models import User
from execution_app.services import start_run
from sessions_app.services import create_session
alice = User.objects.get(username="alice")
runs = [
    start_run(session=create_session(owner=alice, mode="one-shot"), task="x", by=alice)
    for _ in range({writers})
]
sys.stdout.write(" ".join(str(run.pk) for run in runs))
"""


def start_run_writer(database: Deployment, owner: str, file: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.programs", "run-writer", owner, str(file)],
        cwd=BASE_DIR,
        env=database.env,
    )


def stored(file: Path) -> int:
    """The last batch that the writer was told is stored."""
    whole = file.read_text().rpartition("\n")[0].splitlines() if file.exists() else []
    numbers = [int(line.split()[1]) for line in whole if line.startswith("stored")]
    return numbers[-1] if numbers else 0


def _log(database: Deployment) -> str:
    return Path(database.folder / "writers.log").read_text()[-3000:]
