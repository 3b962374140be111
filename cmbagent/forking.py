"""What a supervisor and the template process say to each other.

One connection (SOCK_SEQPACKET, one JSON object per packet) is one engine:

* supervisor → template: an Order, with the engine's four descriptors (see DESCRIPTORS)
* template → supervisor: Forked with the engine's pidfd, or Refused
* template → supervisor, when the engine has ended and all that it left behind too: Ended

The engine's zombie is kept until the supervisor closes the connection: so long the number is
nobody else's. Closed before the engine ended, the engine's group is killed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

DESCRIPTORS = ("stdout", "stderr", "channel", "lifeline")
MAX_PACKET_BYTES = 64 * 1024

# What the template tells its host, through a pipe: numbers of four bytes. READY once, the pid of
# each engine it forked, and minus that pid when it has buried it.
ROSTER_WORD = "i"
READY = 0

_HERE = Path(__file__).resolve().parent


class Order(TypedDict):
    """What a supervisor asks for. An order with an empty run_id only asks whether anybody is
    there; it brings no descriptors and is answered by Forked with pid 0."""

    build: str
    run_id: str
    work_dir: str
    environment: dict[str, str]


class Forked(TypedDict):
    pid: int


class Refused(TypedDict):
    refused: str


class Ended(TypedDict):
    """status as subprocess has it: minus the number of the signal that ended it. `strangers` is
    how many processes it had left behind that were killed."""

    status: int
    strangers: int


def packet(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def build_id() -> str:
    """Tells engines of one build from those of another: our source, and what is installed."""
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(_HERE.rglob("*")):
        if file.is_file() and file.suffix in {".py", ".md"}:
            digest.update(f"\0{file.relative_to(_HERE)}\0".encode() + file.read_bytes())
    for name, version in sorted(_installed()):
        digest.update(f"\0{name} {version}".encode())
    return digest.hexdigest()[:16]


def _installed() -> set[tuple[str, str]]:
    return {(found.name, found.version) for found in importlib.metadata.distributions()}
