"""A whole CMBAgent of a test's own: data folder, database, web, workers; killable in every part.

    with Deployment.running(shape) as house:
        run = house.start_run("```python\\nprint(1)\\n```")
        os.kill(house.engine_of(run), signal.SIGKILL)
        house.wait_for(run, "completed")

Two shapes: "embedded" (SQLite, ORM broker, Unix datagrams), "production" (PostgreSQL, Redis).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import httpx
import psycopg

from tests.servers import PostgreSQL, Redis, free_port

Shape = Literal["embedded", "production"]
BASE_DIR = Path(__file__).resolve().parent.parent
T = TypeVar("T")


class TookTooLong(AssertionError):
    """What a test waited for did not come."""


def wait_until(look: Callable[[], T | None], *, within: float, what: str, every: float = 0.02) -> T:
    """The first true answer of `look`."""
    deadline = time.monotonic() + within
    while not (answer := look()):
        if time.monotonic() > deadline:
            raise TookTooLong(f"{what} did not come within {within:g} s")
        time.sleep(every)
    return answer


class Deployment:
    """Processes of one installation, started and stopped one by one."""

    def __init__(
        self,
        shape: Shape,
        *,
        workers: int = 4,
        postgres: PostgreSQL | None = None,
        redis: Redis | None = None,
        env: dict[str, str] | None = None,
        program: Path = BASE_DIR,
    ) -> None:
        self.shape = shape
        self.program = program
        self.folder = Path(tempfile.mkdtemp(prefix="cmbagent-test-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.log = self.folder / "log.jsonl"
        self.postgres, self.redis = postgres, redis
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.env = _clean_environment() | {
            "CMBAGENT_DATA_DIR": str(self.folder / "data"),
            "PORT": str(self.port),
            "CMBAGENT_WORKERS": str(workers),
            "LOG_JSON": "1",
        }
        if shape == "production":
            if postgres is None or redis is None:
                raise ValueError("production needs its PostgreSQL and Redis")
            name = f"test_{secrets.token_hex(4)}"
            self.env |= {"DATABASE_URL": postgres.create_database(name), "REDIS_URL": redis.url}
            self._database = name
        self.env |= env or {}
        self.token = ""
        self._client: httpx.Client | None = None

    # -- life ---------------------------------------------------------------------------------
    @classmethod
    @contextmanager
    def running(cls, shape: Shape, **options: Any) -> Iterator[Self]:
        """Migrated, with a user `alice`, web and workers up; gone afterwards, to the last process."""
        with contextlib.ExitStack() as stack:
            if shape == "production":
                for name, server in (("postgres", PostgreSQL), ("redis", Redis)):
                    if options.get(name) is None:
                        options[name] = stack.enter_context(server.running())
            house = cls(shape, **options)
            stack.callback(house.remove)
            house.prepare()
            house.start_web()
            house.start_workers()
            yield house

    def prepare(self, *, token: bool = True) -> None:
        self.manage("migrate", "--verbosity", "0")
        self.manage("createsuperuser", "--noinput", "--username", "alice", "--email", "a@b.example")
        if token:
            self.token = self.python(
                "import sys; from django.contrib.auth.models import User;"
                "from sessions_app.services import create_token;"
                "sys.stdout.write(create_token(user=User.objects.get(username='alice')))"
            )

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.program,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def python(self, program: str) -> str:
        """What a few lines of Python print in this deployment's Django."""
        return self.manage("shell", "--no-imports", "-v", "0", "-c", program).strip()

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the database, past every process of ours."""
        if self.shape == "embedded":
            path = self.folder / "data" / "db.sqlite3"
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                return list(database.execute(sql.replace("%s", "?"), values))
        with psycopg.connect(self.env["DATABASE_URL"], autocommit=True) as connection:
            return list(connection.execute(sql, values))

    def change(self, sql: str, *values: object) -> None:
        """One statement against the database, past every process of ours."""
        if self.shape == "embedded":
            path = self.folder / "data" / "db.sqlite3"
            with contextlib.closing(sqlite3.connect(path, timeout=10)) as database, database:
                database.execute(sql.replace("%s", "?"), values)
            return
        with psycopg.connect(self.env["DATABASE_URL"], autocommit=True) as connection:
            connection.execute(sql, values)

    def logged_lines(self, session_id: str) -> list[tuple[int, str]]:
        """(seq, text) of a session's whole log; text is empty for what is no output."""
        key = session_id.replace("-", "") if self.shape == "embedded" else session_id
        rows = self.query(
            "SELECT seq, data FROM sessions_app_event WHERE session_id = %s ORDER BY seq", key
        )
        parsed = [(seq, json.loads(d) if isinstance(d, str) else d) for seq, d in rows]
        return [(seq, str(data.get("text", ""))) for seq, data in parsed]

    def run_lines(self, run_id: str) -> list[str]:
        """What one run printed, as it stands in the database."""
        key = run_id.replace("-", "") if self.shape == "embedded" else run_id
        rows = self.query(
            "SELECT data FROM sessions_app_event WHERE run_id = %s AND event_type = 'output'", key
        )
        parsed = [json.loads(d) if isinstance(d, str) else d for (d,) in rows]
        return [str(data["text"]).strip() for data in parsed]

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.program,
                env=self.env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_web(self) -> None:
        endpoint = f"tcp:port={self.port}:interface=127.0.0.1:backlog=8192"
        self.start(
            "web", "-m", "daphne", "-v", "0", "-e", endpoint, "cmbagent_site.asgi:application"
        )
        wait_until(self.is_healthy, within=60, what="a healthy web process")

    def start_workers(self) -> None:
        self.start("workers", "manage.py", "run_workers")
        wait_until(self.workers_are_up, within=60, what="idle workers")

    def start_other_host(self) -> str:
        """A second run_workers over the same data, with sockets and locks of its own."""
        kept = self.env
        self.env = kept | {"CMBAGENT_RUNTIME_DIR": str(self.folder / "other-host")}
        self.start("other host", "manage.py", "run_workers")
        self.env = kept
        return "other host"

    def is_healthy(self) -> bool:
        web = self.processes["web"]
        assert web.poll() is None, f"the web process ended: {self.log.read_text()[-3000:]}"
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/api/health/live", timeout=2).status_code == 200
        return False

    def workers_are_up(self) -> bool:
        return len(self.worker_pids()) >= int(self.env["CMBAGENT_WORKERS"])

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(60)

    def remove(self) -> None:
        if self._client is not None:
            self._client.close()
        for name in list(self.processes):
            self.kill(name)
        for pid in self.living_processes():  # what a failed test left
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.shape == "production" and self.postgres is not None:
            self.postgres.drop_database(self._database)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- HTTP ---------------------------------------------------------------------------------
    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> httpx.Client:
        if self._client is None:
            headers = {"Authorization": f"Bearer {self.token}"}
            self._client = httpx.Client(base_url=self.url, headers=headers, timeout=60)
        return self._client

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(f"/api/{path}", params=query)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.client.post(f"/api/{path}", json=body if body is not None else {})
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def start_run(self, task: str, session: str | None = None, **body: Any) -> str:
        """The id of a new run, in a new session unless one is given."""
        session = session or str(self.post("sessions", {"mode": "one-shot"})["session_id"])
        return str(self.post(f"sessions/{session}/runs", {"task": task, **body})["run_id"])

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"runs/{run_id}")
        return found

    def wait_for(self, run_id: str, *statuses: str, within: float = 120) -> dict[str, Any]:
        """The run, once its status is one of these."""

        def look() -> dict[str, Any] | None:
            with contextlib.suppress(httpx.TransportError):
                run = self.run(run_id)
                return run if run["status"] in statuses else None
            return None

        return wait_until(look, within=within, what=f"{' or '.join(statuses)}", every=0.05)

    def wait_for_output(self, run_id: str, text: str, within: float = 60) -> None:
        """Until the run's console has this text."""
        path = f"/api/runs/{run_id}/console"
        wait_until(lambda: text in self.client.get(path).text, within=within, what=repr(text))

    @staticmethod
    def title(pid: int) -> str:
        return command_line(pid)

    def events(self, session_id: str) -> list[dict[str, Any]]:
        """The whole log of a session, checked to be dense."""
        events: list[dict[str, Any]] = []
        more = True
        while more:
            after = events[-1]["seq"] if events else 0
            page = self.get(f"sessions/{session_id}/events", after=after, limit=5000)
            events += page["events"]
            more = page["more"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        return events

    def events_of(self, run_id: str) -> list[dict[str, Any]]:
        events = self.events(self.run(run_id)["session_id"])
        return [event for event in events if event["run_id"] == run_id]

    # -- processes ----------------------------------------------------------------------------
    def engine_of(self, run_id: str, within: float = 30) -> int:
        """The pid of the run's engine, once it has one."""
        title = f"cmbagent engine {run_id}"
        return wait_until(lambda: find(title), within=within, what=title)[0]

    def worker_of(self, run_id: str, within: float = 30) -> int:
        """The process whose supervisor has the run, once there is one. Not the engine's parent:
        that is the template."""
        return wait_until(lambda: self.lease_holder(run_id), within=within, what="a worker")

    def lease_holder(self, run_id: str) -> int | None:
        key = run_id.replace("-", "") if self.shape == "embedded" else run_id
        rows = self.query("SELECT lease_owner FROM execution_app_run WHERE id = %s", key)
        owner = rows[0][0] or ""
        return int(owner.rpartition(":")[2]) if owner else None

    def template_pids(self) -> list[int]:
        """The template process, unless it is being replaced."""
        host = self.processes.get("workers")
        below = children(host.pid) if host else []
        return [pid for pid in below if command_line(pid) == "cmbagent template"]

    def committer_pids(self) -> list[int]:
        """The process that stores what runs print, unless it is being replaced."""
        host = self.processes.get("workers")
        below = children(host.pid) if host else []
        return [pid for pid in below if command_line(pid) == "cmbagent committer"]

    def worker_pids(self) -> list[int]:
        """Worker processes of the runs' cluster, idle and at work."""
        below = descendants(self.cluster_pids())
        return [pid for pid in below if is_worker(command_line(pid))]

    def cluster_pids(self) -> list[int]:
        """Main processes of the runs' cluster."""
        host = self.processes.get("workers")
        below = children(host.pid) if host else []
        return [pid for pid in below if "qcluster runs main" in command_line(pid)]

    def freeze(self, pid: int) -> None:
        """SIGSTOP, at a moment outside a transaction on SQLite: its one write lock would be
        frozen with the process (PostgreSQL ends such a transaction by itself)."""
        for _ in range(50):
            os.kill(pid, signal.SIGSTOP)
            if self.shape == "production" or self._can_write():
                return
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.02)
        raise TookTooLong("a moment outside a transaction did not come")

    def _can_write(self) -> bool:
        path = self.folder / "data" / "db.sqlite3"
        with contextlib.closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return False
        return True

    def living_processes(self) -> list[int]:
        """Everything that belongs to this deployment: it stands in its folder or holds its files."""
        return [pid for pid in all_pids() if pid != os.getpid() and _uses(pid, str(self.folder))]


def _clean_environment() -> dict[str, str]:
    """Ours, without what would reach into the deployment from outside."""
    money = ("OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "MISTRAL_")  # no test spends any
    named = ("CMBAGENT_", "DJANGO_", "LOG_", "PYTEST", "COV_", *money)
    dropped = {"DATABASE_URL", "REDIS_URL", "PORT", "HOST", "MAX_CONNECTIONS", "Q_CLUSTER_NAME"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(named) and k not in dropped}
    return kept | {"DJANGO_SUPERUSER_PASSWORD": "a long enough secret"}


def all_pids() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def find(part: str) -> list[int]:
    return [pid for pid in all_pids() if part in command_line(pid) and state(pid) not in "ZX"]


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pids: list[int]) -> list[int]:
    found: list[int] = []
    for pid in pids:
        below = children(pid)
        found += below + descendants(below)
    return found


def is_worker(title: str) -> bool:
    """django-q titles its workers so, idle and at work."""
    return title.startswith("qcluster") and (" idle" in title or " processing " in title)


def _uses(pid: int, folder: str) -> bool:
    if state(pid) in "ZX":
        return False
    try:
        links = [f"/proc/{pid}/cwd", *(entry.path for entry in os.scandir(f"/proc/{pid}/fd"))]
        return any(str(Path(link).readlink()).startswith(folder) for link in links)
    except OSError:
        return False


def same(left: Any, right: Any) -> bool:
    """Equal as JSON."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
