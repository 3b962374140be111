"""What the sandbox's tests share: every level and kind of user that exists here, and how to run
code there."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cmbagent.sandbox import Ending
from tests.cmbagent.sandbox_engine import CHECKOUT, PYTHON

USER = 54_321  # no account of the machine, as an engine that is not root
SESSION_USER = 1_912_345_678  # what a session's code becomes under an engine that is root
IS_ROOT = os.geteuid() == 0
ENGINE = str(Path(__file__).with_name("sandbox_engine.py"))
SMALL = {
    "wall_s": 15,
    "cpu_s": 10,
    "memory_bytes": 512 << 20,
    "file_bytes": 8 << 20,
    "disk_bytes": 24 << 20,
    "files": 200,
    "processes": 24,
}


@dataclasses.dataclass(frozen=True)
class Case:
    level: int
    root: bool

    @property
    def engine_user(self) -> int:
        return 0 if self.root else (USER if IS_ROOT else os.geteuid())

    @property
    def code_user(self) -> int:
        return SESSION_USER if self.root else self.engine_user

    def __str__(self) -> str:
        return f"level{self.level}-{'root' if self.root else 'user'}"


CASES = [
    Case(level, root) for level in (1, 2, 3) for root in ((True, False) if IS_ROOT else (False,))
]
CONFINED = [case for case in CASES if case.level < 3]


def every(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=str, scope="module")


@dataclasses.dataclass
class Place:
    """A session's folder on a machine: its work directory, and what is none of its business."""

    root: Path
    work: Path
    secret: Path
    neighbour: Path


@contextmanager
def place(case: Case, *, closed: bool = False) -> Iterator[Place]:
    """`closed`: below a folder that only its owner, root, may enter, made under umask 077."""
    root = Path(tempfile.mkdtemp(prefix="cmbagent-sandbox-test-"))
    try:
        root.chmod(0o700 if closed else 0o755)
        server = root / "server"
        found = Place(server, server / "a" / "work", server / "secret_key", server / "b" / "work")
        for folder in (found.work, found.neighbour):
            folder.mkdir(parents=True)
        for file in (found.secret, found.neighbour / "result.csv"):
            file.write_text("a secret\n")
            file.chmod(0o600)
        _give_all(server, case.engine_user)
        if closed:
            _give_all(server, case.engine_user, folders=0o700)
        yield found
    finally:
        shutil.rmtree(root)


def _give_all(root: Path, uid: int, folders: int = 0o755) -> None:
    for path in (root, *root.rglob("*")):
        os.chown(path, uid, uid)
        if path.is_dir():
            path.chmod(folders)


@dataclasses.dataclass
class Result:
    ending: Ending | None
    failed: str | None
    lines: list[str]
    stderr: str

    def answers(self) -> dict[str, Any]:
        """What the code printed as its last line, as JSON."""
        assert self.lines, (self.ending, self.failed, self.stderr)
        try:
            answers: dict[str, Any] = json.loads(self.lines[-1])
        except ValueError as error:
            raise AssertionError("\n".join(self.lines)) from error
        return answers


def job(case: Case, work_dir: Path, code: str, *words: str, **changes: Any) -> dict[str, Any]:
    limits = SMALL | {key: changes.pop(key) for key in list(changes) if key in SMALL}
    return {
        "become": USER if IS_ROOT and not case.root else None,
        "level": case.level,
        "uid": SESSION_USER if case.root else None,
        "work_dir": str(work_dir),
        "readable": [],
        "argv": None,
        "code": code,
        "words": words,
        "limits": limits,
        "env": {"PATH": "/usr/bin:/bin", "HOME": str(work_dir)},
        "stop_at": None,
        "without": "",
        **changes,
    }


def start(order: dict[str, Any]) -> subprocess.Popen[str]:
    """An engine with the session and process group of its own that engines have."""
    return subprocess.Popen(
        [PYTHON, ENGINE, json.dumps(order)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd="/",
        env={"PYTHONPATH": CHECKOUT, "PATH": os.environ["PATH"], "SECRET": "a secret"},
    )


def run(case: Case, work_dir: Path, code: str, *words: str, **changes: Any) -> Result:
    with start(job(case, work_dir, code, *words, **changes)) as engine:
        output, stderr = engine.communicate(timeout=60)
    said = [json.loads(line) for line in output.splitlines()]
    endings = [Ending(**word["ending"]) for word in said if "ending" in word]
    failures = [word["failed"] for word in said if "failed" in word]
    lines = [word["line"] for word in said if "line" in word]
    return Result(next(iter(endings), None), next(iter(failures), None), lines, stderr)
