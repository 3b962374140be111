"""Private database and Redis servers for tests: on free ports, in temporary folders, killable.

    with PostgreSQL.running() as postgres:
        url = postgres.create_database("runs")   # a DATABASE_URL
        postgres.kill(); postgres.start()        # the same data on the same port

Each ends with the process that started it, even when that process is killed (setpriv sets the
kernel's parent-death signal): no test leaves a server behind. PostgreSQL refuses to run as root,
so as root it runs as an unprivileged user in a folder that belongs to that user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

START_SECONDS = 30.0
STOP_SECONDS = 20.0


class ServerFailed(RuntimeError):
    """A test's own server did not do what was asked; its last lines say why."""


def free_port() -> int:
    """A port nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class PrivateServer:
    """One server process with a folder and a port of its own, kept over restarts."""

    death_signal = "TERM"  # what the server gets when we die
    stop_signal = signal.SIGTERM
    user: str | None = None  # whom it runs as when we are root; None: as we do

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cmbagent-server-"))
        self.port = free_port()
        self.log = self.folder / "server.log"
        self.log.touch()
        self._process: subprocess.Popen[bytes] | None = None
        if self.user is not None:
            owner = pwd.getpwnam(self.user)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        """Started; stopped and removed at the end, whatever happened to it meanwhile."""
        server = cls()
        try:
            server.start()
            yield server
        finally:
            server.remove()

    @property
    def pid(self) -> int:
        """Of the main process."""
        if self._process is None:
            raise ServerFailed(f"{type(self).__name__} is not running")
        return self._process.pid

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._unprivileged(self.command(), tie=True), stdout=log, stderr=log, cwd="/"
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"{type(self).__name__} did not start: {self.last_lines()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends it as an operator would; connections are cut, data is kept."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """kill -9, and whatever it had started with it."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: it holds its connections and answers nothing until `thaw`."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, down_seconds: float = 0.0) -> None:
        self.stop()
        time.sleep(down_seconds)
        self.start()

    def remove(self) -> None:
        """Ends it for good and removes its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def last_lines(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        children = _children(process.pid)  # asked for first: nobody knows them afterwards
        process.send_signal(how)
        if how == signal.SIGKILL:
            _send_to_all(children, how)
        process.wait(STOP_SECONDS)
        _wait_until_gone(children)

    def _unprivileged(self, command: list[str], *, tie: bool) -> list[str]:
        options = ["--pdeathsig", self.death_signal] if tie else []
        if self.user is not None:
            options = ["--reuid", self.user, "--regid", self.user, "--init-groups", *options]
        return ["setpriv", *options, "--", *command] if options else command

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            self._unprivileged(command, tie=False),
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
        )
        if done.returncode != 0:
            raise ServerFailed(f"{command[0]}: {done.stderr[-2000:]}")


class PostgreSQL(PrivateServer):
    """A cluster of its own; `kill` loses nothing committed, as a killed real one would not."""

    death_signal = "QUIT"  # immediate shutdown
    stop_signal = signal.SIGINT  # fast shutdown: open transactions are rolled back

    def __init__(self) -> None:
        self.user = _postgres_user()
        super().__init__()
        self._programs = _postgres_programs()
        self._data = self.folder / "data"
        options = ["-U", "cmbagent", "-A", "trust", "--no-sync"]
        locale = ["--encoding=UTF8", "--locale=C.UTF-8"]
        self._run([self._program("initdb"), "-D", str(self._data), *options, *locale])

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "shared_buffers": "32MB",
            "fsync": "off",  # our accidents kill processes, not the machine
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", str(self._data), *options]

    def answers(self) -> bool:
        ready = [self._program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, check=False, cwd="/").returncode == 0

    def url(self, database: str) -> str:
        return f"postgres://cmbagent@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """An empty database and its DATABASE_URL."""
        self._run([self._program("createdb"), *self._address(), name])
        return self.url(name)

    def drop_database(self, name: str) -> None:
        self._run([self._program("dropdb"), *self._address(), "--force", "--if-exists", name])

    def _address(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "cmbagent"]

    def _program(self, name: str) -> str:
        return str(self._programs / name)


class Redis(PrivateServer):
    """Keeps nothing: what it held is gone after `stop` and after `kill`."""

    def command(self) -> list[str]:
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return [_found("redis-server"), *where, "--save", "", "--appendonly", "no"]

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise ServerFailed(f"{program} is not installed: scripts/system-packages installs it")
    return path


def _postgres_programs() -> Path:
    """The folder of initdb and its like: Debian keeps them out of PATH, by version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    return folders[-1] if folders else Path(_found("initdb")).resolve().parent


def _postgres_user() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _send_to_all(pids: list[int], how: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            continue


def _wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while any(Path(f"/proc/{pid}/stat").exists() and not _is_zombie(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise ServerFailed(f"processes {pids} do not end")
        time.sleep(0.02)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
