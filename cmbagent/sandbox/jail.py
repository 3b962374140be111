"""The words of the sandbox: what is allowed, what is limited, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal[1, 2, 3]
EndedBy = Literal[
    "exit",
    "signal",
    "time_limit",
    "cpu_limit",
    "memory_limit",
    "disk_limit",
    "output_limit",
    "process_limit",
    "stopped",
]


class SandboxFailed(Exception):
    """The code was not started: the sandbox could not be set up, or the program not be run."""


@dataclass(frozen=True)
class Limits:
    """For all processes of one execution together. `cpu_s` counts every core: code that computes
    on eight of them uses eight seconds of it in one. `file_bytes` is for one file, `disk_bytes`
    and `files` for the whole work directory, with what lay in it before; `memory_bytes` is also
    the address space of a single process. `output_bytes` is for the caller to count: he calls
    `Launched.stop("output_limit")`."""

    wall_s: int = 7200
    cpu_s: int = 7200
    memory_bytes: int = 8 << 30
    file_bytes: int = 4 << 30
    disk_bytes: int = 20 << 30
    files: int = 100_000
    processes: int = 256
    output_bytes: int = 200 << 20


@dataclass(frozen=True)
class Jail:
    """Where code may write (`work_dir`) and what it may read besides the system, its interpreter
    and the interpreter's environment. As root it becomes `uid`, or nobody if that is None or
    unknown to the kernel, and the work directory is given to that user."""

    level: Level
    work_dir: str
    readable: tuple[str, ...]
    uid: int | None


@dataclass(frozen=True)
class Ending:
    """A tree that was killed has no exit code."""

    exit_code: int | None
    signal: int | None
    ended_by: EndedBy
    duration_s: float
