"""Where a task of the terminal lives, and what its engine is told of this machine.

WORK_DIR/journal.jsonl   what happened; no code can write here
WORK_DIR/engine.jsonl    the engine's log
WORK_DIR/files/          the work directory of the code
"""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cmbagent import wire
from cmbagent.execution import LOCKFILE
from cmbagent.sandbox import Limits, probe

SCIENCE_ENV = LOCKFILE.parent.parent / ".venv-science"
_FIRST_UID, _UIDS = 1_900_000_000, 100_000_000  # far above every account of a machine
ONLY_BUBBLEWRAP = "Install bubblewrap and start again, or set CMBAGENT_SANDBOX=2."
RISK_ACCEPTED: Literal[3] = 3  # limits only


class PlaceUnusable(Exception):
    """The folders cannot be used so; the text says why."""


@dataclass(frozen=True)
class Place:
    root: Path
    journal: Path

    @property
    def files(self) -> Path:
        return self.root / "files"

    @property
    def log(self) -> Path:
        return self.root / "engine.jsonl"


def prepared(work_dir: Path, journal: Path | None) -> Place:
    """With its folders made. Raises PlaceUnusable."""
    root = work_dir.absolute()
    place = Place(root, (journal or root / "journal.jsonl").absolute())
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.files.mkdir(exist_ok=True)
        folder = place.journal.parent.resolve(strict=True)
    except OSError as error:
        raise PlaceUnusable(f"{error.filename} cannot be used: {error.strerror}.") from error
    if folder.is_relative_to(place.files.resolve()):
        raise PlaceUnusable(
            f"The journal must not lie in {place.files}, where code writes: choose another place."
        )
    return place


@dataclass(frozen=True)
class Machine:
    """What the environment says about running code here; see docs/operations.md."""

    accepted_level: int
    data_roots: list[str]
    code_threads: int | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Machine:
        """Raises ValueError."""
        level = environ.get("CMBAGENT_SANDBOX", "").strip() or "2"
        if level not in {"1", "2", "3"}:
            raise ValueError(f"CMBAGENT_SANDBOX={level!r} is unknown: use 1, 2 or 3.")
        threads = environ.get("CMBAGENT_CODE_THREADS", "").strip()
        if threads and not (threads.isascii() and threads.isdigit() and int(threads) > 0):
            raise ValueError(f"CMBAGENT_CODE_THREADS={threads!r} is no number of threads.")
        roots = environ.get("CMBAGENT_DATA_ROOTS", "").split(":")
        return cls(
            accepted_level=int(level),
            data_roots=[str(Path(root).absolute()) for root in roots if root],
            code_threads=int(threads) if threads else None,
        )

    def sandbox(self, run_id: uuid.UUID) -> wire.Sandbox:
        """The best level that works here, tried out. Level 3 where none does: then each execution
        is asked about, unless the risk was accepted. None where bubblewrap alone was accepted."""
        readable = [str(SCIENCE_ENV), *self.data_roots]
        found = probe(readable)
        refused = self.accepted_level == 1 and found.level != 1
        return {
            "level": None if refused else found.level or RISK_ACCEPTED,
            "remedy": ONLY_BUBBLEWRAP if refused else found.remedy,
            "uid": _FIRST_UID + run_id.int % _UIDS if os.geteuid() == 0 else None,
            "readable": readable,
        }

    def must_ask(self, sandbox: wire.Sandbox) -> bool:
        return sandbox["level"] == RISK_ACCEPTED and self.accepted_level != RISK_ACCEPTED


def start_message(
    place: Place,
    machine: Machine,
    task: Mapping[str, Any],
    *,
    models: dict[str, wire.ModelSpec],
    attempt: int,
    approve_code: bool,
) -> wire.Start:
    """`task` is the journal's first record."""
    run_id = uuid.UUID(task["run_id"])
    sandbox = machine.sandbox(run_id)
    return {
        "t": "start",
        "run_id": str(run_id),
        "session_id": str(run_id),
        "attempt": attempt,
        "run_number": 1,
        "mode": task["mode"],
        "task": task["task"],
        "config": task["config"],
        "work_dir": str(place.files),
        "run_dir": "runs/1",
        "sandbox": sandbox,
        "science_env": str(SCIENCE_ENV),
        "data_roots": machine.data_roots,
        "code_threads": machine.code_threads,
        "limits": _limits(),
        "code_approval": approve_code or machine.must_ask(sandbox),
        "models": models,
        "spent": [],  # as the entries: the journal has it in this very process
        "journal_entries": 0,
    }


def _limits() -> dict[str, int]:
    limits = Limits()
    cores = os.cpu_count() or 1  # CPU time is summed over cores
    return dataclasses.asdict(dataclasses.replace(limits, cpu_s=limits.wall_s * cores))
