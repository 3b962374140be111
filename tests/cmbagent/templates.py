"""A template process of a test's own, and the smallest supervisor that can order from it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cmbagent.forking import MAX_PACKET_BYTES, ROSTER_WORD, build_id, packet

CHECKOUT = Path(__file__).resolve().parents[2]
REAL = ("-m", "cmbagent.template")
PROBING = ("-m", "tests.cmbagent.probing_template")
RUN_ID = "11111111-2222-3333-4444-555555555555"
PATIENCE_S = 60.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(CHECKOUT)}


class Template:
    """A template process with its listening socket and roster, as a worker host has them."""

    def __init__(
        self, folder: Path, program: Sequence[str] = REAL, build: str = "", **environment: str
    ) -> None:
        self.path = str(folder / "template.sock")
        self.build = build or build_id()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen(1024)
        self.roster, roster = os.pipe()
        kept = (self.listener.fileno(), roster)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-s", *program, *map(str, kept), self.build],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=ENVIRONMENT | environment,
            pass_fds=kept,
        )
        os.close(roster)

    def word(self) -> int | None:
        """The next from the roster; None when the template has ended."""
        assert select.select([self.roster], [], [], PATIENCE_S)[0], "nothing in the roster"
        content = os.read(self.roster, struct.calcsize(ROSTER_WORD))
        return int(struct.unpack(ROSTER_WORD, content)[0]) if content else None

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(PATIENCE_S)
        connection.connect(self.path)
        return connection

    def end(self) -> str:
        """Kill it; what it wrote to stderr."""
        self.process.kill()
        _, complaint = self.process.communicate(timeout=10)
        self.listener.close()
        os.close(self.roster)
        return complaint.decode()


@contextlib.contextmanager
def running(program: Sequence[str] = REAL, **environment: str) -> Iterator[Template]:
    """One that is ready."""
    with tempfile.TemporaryDirectory(prefix="cmbagent-template-") as folder:
        template = Template(Path(folder), program, **environment)
        try:
            assert template.word() == 0, template.process.communicate()[1]
            yield template
        finally:
            template.end()


class Ordered:
    """One connection to a template, and the engine it gave us."""

    def __init__(self, template: Template, work_dir: Path, **changes: Any) -> None:
        environment = ENVIRONMENT | {"HOME": str(work_dir), "TZ": "Asia/Tokyo"}
        order: dict[str, Any] = {
            "build": template.build,
            "run_id": RUN_ID,
            "work_dir": str(work_dir),
            "environment": environment,
        }
        self.stdout, stdout = os.pipe()
        self.stderr, stderr = os.pipe()
        self.channel, channel = socket.socketpair()
        lifeline, self.lifeline = os.pipe()
        self.channel.settimeout(PATIENCE_S)
        self.connection = template.connect()
        theirs = (stdout, stderr, channel.fileno(), lifeline)
        socket.send_fds(self.connection, [packet(order | changes)], theirs)
        channel.close()
        for descriptor in (stdout, stderr, lifeline):
            os.close(descriptor)
        self.lines = self.channel.makefile("rw")
        self.pid, self.pidfd = 0, -1

    def born(self) -> dict[str, Any]:
        """What the template answers."""
        content, pidfds, _, _ = socket.recv_fds(self.connection, MAX_PACKET_BYTES, 1)
        answer: dict[str, Any] = json.loads(content)
        if pidfds:
            self.pid, self.pidfd = answer["pid"], pidfds[0]
        return answer

    def facts(self) -> dict[str, Any]:
        """What a probing engine tells of itself."""
        told: dict[str, Any] = json.loads(self.lines.readline())
        return told

    def tell(self, word: str) -> None:
        self.lines.write(word + "\n")
        self.lines.flush()

    def ended(self) -> dict[str, Any]:
        """What the template tells of its end."""
        told: dict[str, Any] = json.loads(self.connection.recv(MAX_PACKET_BYTES))
        return told

    def has_ended(self, within: float = 10.0) -> bool:
        return bool(select.select([self.pidfd], [], [], within)[0])

    def is_reaped(self) -> bool:
        try:
            signal.pidfd_send_signal(self.pidfd, 0)
        except ProcessLookupError:
            return True
        return False

    def cut_lifeline(self) -> None:
        os.close(self.lifeline)
        self.lifeline = -1

    def close(self) -> None:
        """As the kernel does when a supervisor dies."""
        self.connection.close()
        self.lines.close()
        self.channel.close()
        for descriptor in (self.stdout, self.stderr, self.lifeline, self.pidfd):
            if descriptor >= 0:
                os.close(descriptor)


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status by name."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def descriptors(pid: int) -> dict[int, str]:
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while we look
            found[int(entry.name)] = str(entry.readlink())
    return found
