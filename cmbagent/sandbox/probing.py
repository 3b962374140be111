"""Which level works on this machine, found out by running something in it that tries to get out."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmbagent.sandbox.jail import Jail, Level, Limits, SandboxFailed
from cmbagent.sandbox.launching import launch

_LIMITS = Limits(
    wall_s=20,
    cpu_s=10,
    memory_bytes=1 << 30,
    file_bytes=1 << 20,
    disk_bytes=10 << 20,
    files=1000,
    processes=20,
)
# Whether the level confines at all, and whether the code's user can read what it is to read.
_ATTEMPT = """
import os, socket, sys
secret, port, *readable = sys.argv[1:]
open("here", "w").close()
try:
    open(secret).close()
    sys.exit("it could read a file outside its folder")
except OSError:
    pass
try:
    socket.create_connection(("127.0.0.1", int(port)), 2)
    sys.exit("it could reach a port of this machine")
except OSError:
    pass
for path in readable:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path).close()
    except OSError as error:
        sys.exit(f"executed code cannot read {path} ({error.strerror}): its user needs the right to")
sys.stdout.write("confined\\n")
"""
_REMEDY = (
    "Install bubblewrap (package `bubblewrap`) and start again"
    ", or accept the risk of code that is limited but not confined: CMBAGENT_SANDBOX=3."
)


@dataclass(frozen=True)
class Probe:
    """`level` is the best that works, None if none does; `tried` has "ok" or a reason for levels
    1 and 2 (what comes after the first that works is not tried); `remedy` is empty if all is
    well."""

    level: Level | None
    tried: dict[int, str]
    remedy: str


def probe(readable: Sequence[str]) -> Probe:
    """Really run something confined, by the user that would run code. Takes about 0.2 s."""
    tried: dict[int, str] = {}
    levels: tuple[Level, ...] = (1, 2)
    for level in levels:
        tried[level] = _try(level, [path for path in readable if Path(path).exists()])
        if tried[level] == "ok":
            return Probe(level, tried, "")
    return Probe(None, tried, _REMEDY)


def _try(level: Level, readable: Sequence[str]) -> str:
    with tempfile.TemporaryDirectory(prefix="cmbagent-probe-") as folder, _listener() as port:
        secret = Path(folder, "secret")
        secret.write_text("x")
        Path(folder).chmod(0o755)  # only the sandbox stands between the code and the secret
        work = Path(folder, "work")
        work.mkdir()
        return _attempt(level, str(work), [str(secret), str(port)], readable)


@contextlib.contextmanager
def _listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _attempt(level: Level, work: str, words: list[str], readable: Sequence[str]) -> str:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as output:
        jail = Jail(level, work, tuple(readable), None)
        argv = [os.path.realpath(sys.executable), "-I", "-S", "-c", _ATTEMPT, *words, *readable]
        try:
            launched = launch(
                argv, jail=jail, limits=_LIMITS, env={}, stdout=write, stderr=write, cwd=work
            )
        finally:
            os.close(write)
        try:
            launched.wait()
        except SandboxFailed as error:
            return _reason(output.read(), str(error))
        said = output.read()
        return "ok" if said == b"confined\n" else _reason(said, "it said nothing")


def _reason(said: bytes, otherwise: str) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else otherwise
