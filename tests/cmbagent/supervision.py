"""A small supervisor for tests: starts a real engine, answers it, keeps what comes in order."""

from __future__ import annotations

import dataclasses
import functools
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cmbagent import wire, workdir
from cmbagent.sandbox import Limits, probe

CHECKOUT = Path(__file__).resolve().parents[2]
SCIENCE_ENV = CHECKOUT / ".venv-science"
RUN_ID = "11111111-2222-3333-4444-555555555555"
PATIENCE_S = 90.0
NO_MODEL: wire.ModelSpec = {
    "provider": "no-model",
    "name": "no-model",
    "base_url": None,
    "api_key": None,
    "timeout_s": 60.0,
    "input_price": None,
    "output_price": None,
}


@functools.cache
def sandbox() -> wire.Sandbox:
    """What this machine offers, as a worker host would tell its engines."""
    readable = (str(SCIENCE_ENV),)
    found = probe(readable)
    uid = 1_900_000_001 if os.geteuid() == 0 else None
    level: Any = found.level
    return {"level": level, "remedy": found.remedy, "uid": uid, "readable": list(readable)}


def start_message(work_dir: Path, task: str, **changes: Any) -> wire.Start:
    message: dict[str, Any] = {
        "t": "start",
        "run_id": RUN_ID,
        "session_id": "99999999-2222-3333-4444-555555555555",
        "attempt": 1,
        "run_number": 1,
        "mode": "one-shot",
        "task": task,
        "config": {},
        "work_dir": str(work_dir),
        "run_dir": "runs/1",
        "sandbox": sandbox(),
        "science_env": str(SCIENCE_ENV),
        "data_roots": [],
        "code_threads": None,
        "limits": dataclasses.asdict(Limits()),
        "code_approval": False,
        "models": {"default": NO_MODEL},
        "spent": [],
        "journal_entries": 0,
    }
    message.update(changes)
    return message  # type: ignore[return-value]  # the tests change single fields


@dataclass
class Heard:
    """What came from the engine, in the order in which a supervisor stores it."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    stdout: bytes = b""
    stderr: bytes = b""
    # the length of stdout and stderr when each message was taken
    output_before: list[tuple[int, int]] = field(default_factory=list)

    def events(self, event_type: str) -> list[dict[str, Any]]:
        """Their data, in order: those that came alone and those that came with an entry."""
        told = [event for message in self.messages for event in _events(message)]
        return [event["data"] for event in told if event["event_type"] == event_type]

    @property
    def entries(self) -> list[wire.Entry]:
        """What the engine has the supervisor store, as a later attempt gets it back."""
        stored = [message for message in self.messages if message["t"] == "entry"]
        return [{**entry, "events": []} for entry in stored]  # type: ignore[typeddict-item]  # read

    def kinds(self) -> list[str]:
        """The messages by name, an event's type or its "t"; without those for the log. An entry
        is told by the events that it brings."""
        return [name for message in self.messages for name in _names(message)]

    @property
    def outcome(self) -> dict[str, Any]:
        assert self.messages, self.stderr
        assert self.messages[-1]["t"] == "outcome", self.messages[-1]
        return self.messages[-1]

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.outcome["error"]
        return error


def _events(message: dict[str, Any]) -> list[dict[str, Any]]:
    if message["t"] == "entry":
        return list(message["events"])
    return [message] if message["t"] == "event" else []


def _names(message: dict[str, Any]) -> list[str]:
    if message["t"] in {"entry", "event"}:
        return [event["event_type"] for event in _events(message)]
    return [] if message["t"] == "log" else [message["t"]]


class Supervisor:
    """Owns one engine process; ends with the `with` block, and so does the engine."""

    def __init__(self, work_dir: Path, *, run_id: str = RUN_ID, acknowledges: bool = True) -> None:
        self.work_dir = work_dir
        self.acknowledges = acknowledges
        self.heard = Heard()
        self._known = workdir.list_files(work_dir, max_files=1000).files
        self._lines = wire.Lines()
        self.channel, channel = socket.socketpair()
        lifeline, self.lifeline = os.pipe()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "cmbagent.engine", run_id),
                *(str(channel.fileno()), str(lifeline)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=work_dir,
            env=_environment(work_dir),
            start_new_session=True,
            pass_fds=(channel.fileno(), lifeline),
        )
        channel.close()
        os.close(lifeline)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
        self.channel.close()
        if self.lifeline >= 0:
            os.close(self.lifeline)

    def send(self, message: wire.SupervisorMessage) -> None:
        self.channel.sendall(wire.encode(message))

    def begin(self, task: str, *, journal: Sequence[wire.Entry] = (), **changes: Any) -> None:
        """The start, and what earlier attempts finished."""
        start = start_message(self.work_dir, task, **changes)
        self.send({**start, "journal_entries": len(journal)})
        for entry in journal:
            self.send(entry)

    def cut_lifeline(self) -> None:
        os.close(self.lifeline)
        self.lifeline = -1

    def until(self, kind: str) -> dict[str, Any]:
        """Serve the engine until it says this; the message."""
        for message in self._serve():
            if kind in {message["t"], *_names(message)}:
                return message
        raise AssertionError(f"no {kind}: {self.heard.messages} {self.heard.stderr!r}")

    def until_printed(self, text: bytes) -> None:
        for _ in self._serve(quiet=True):
            if text in self.heard.stdout:
                return
        raise AssertionError(f"never printed: {self.heard}")

    def messages(self) -> Iterator[dict[str, Any]]:
        """Each message as it is taken, until the engine has ended."""
        return self._serve()

    def until_the_end(self) -> Heard:
        """Serve the engine until it has ended; all that it said."""
        for _ in self._serve():
            pass
        self.process.wait(PATIENCE_S)
        return self.heard

    def _serve(self, *, quiet: bool = False) -> Iterator[dict[str, Any]]:
        """Each message as it comes; with `quiet` also an empty one after output alone."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            channel = self.channel.fileno()
            ready, _, _ = select.select([channel, *self._outputs()], [], [], 1.0)
            data = self.channel.recv(1 << 16) if channel in ready else None
            self._take_output()
            if data == b"":
                self._take_output(until_closed=True)
                return
            for line in self._lines.feed(data or b""):
                yield self._taken(wire.decode(line))
            if quiet:
                yield {"t": ""}
        raise AssertionError(f"the engine did not end: {self.heard}")

    def _taken(self, message: dict[str, Any]) -> dict[str, Any]:
        self.heard.messages.append(message)
        self.heard.output_before.append((len(self.heard.stdout), len(self.heard.stderr)))
        if message["t"] == "collect":
            self._collect()
        if message["t"] == "entry" and self.acknowledges:
            self.send({"t": "stored", "key": message["key"]})
        return message

    def _collect(self) -> None:
        found = workdir.list_files(self.work_dir, max_files=1000)
        files: list[wire.CollectedFile] = []
        for path, stamp in found.files.items():
            if self._known.get(path) != stamp:
                kind, mime = workdir.classify(path)
                files.append({"path": path, "kind": kind, "mime": mime, "size": stamp.size})
        self._known = found.files
        self.send({"t": "collected", "files": files, "skipped": len(found.skipped)})

    def _outputs(self) -> list[int]:
        assert self.process.stdout
        assert self.process.stderr
        return [self.process.stdout.fileno(), self.process.stderr.fileno()]

    def _take_output(self, *, until_closed: bool = False) -> None:
        """What was printed before a message is stored before it."""
        out, err = self._outputs()
        self.heard.stdout += _read(out, until_closed=until_closed)
        self.heard.stderr += _read(err, until_closed=until_closed)


def _read(descriptor: int, *, until_closed: bool) -> bytes:
    data = b""
    while until_closed or select.select([descriptor], [], [], 0)[0]:
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            break
        data += chunk
    return data


def _environment(work_dir: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(work_dir),
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def run(work_dir: Path, task: str, *, journal: Sequence[wire.Entry] = (), **changes: Any) -> Heard:
    """One run from its start, with what earlier attempts finished, to its end."""
    with Supervisor(work_dir) as supervisor:
        supervisor.begin(task, journal=journal, **changes)
        return supervisor.until_the_end()


def fenced(*codes: str) -> str:
    return "\n".join(f"```python\n{code}\n```" for code in codes)


def processes_of_session(session: int) -> list[int]:
    """Living processes whose session is that of an engine, the launcher's and the code's too."""
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _session_if_alive(entry) == session
    ]


def _session_if_alive(process: Path) -> int | None:
    try:
        state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state in {"Z", "X"} else int(session)


def gone(session: int, within_s: float = 10.0) -> bool:
    """Whether no process of the session is left, at the latest then."""
    deadline = time.monotonic() + within_s
    while processes_of_session(session):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
