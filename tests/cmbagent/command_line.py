"""`python -m cmbagent` as people and programs start it: processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cmbagent.supervision import CHECKOUT, fenced

PATIENCE_S = 90.0
COUNT = fenced("open('count', 'a').write('x')\nprint('counted')")


def environment(**settings: str) -> dict[str, str]:
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    return {**clean, "PYTHONPATH": str(CHECKOUT), **settings}


def command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "cmbagent", *words]


def started(folder: Path, *words: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words),
        cwd=folder,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cmbagent(
    folder: Path, *words: str, given: str | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=environment(**settings),
        input=given or "",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def events(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def types(stdout: str) -> list[str]:
    return [event["event_type"] for event in events(stdout)]


def waited_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come")


def journal_text(folder: Path) -> str:
    return (folder / "journal.jsonl").read_text()


def ended(process: subprocess.Popen[str], signum: int) -> tuple[int, str, str]:
    process.send_signal(signum)
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def calls_in(work_dir: Path) -> int:
    """Model calls that are in the journal, each once."""
    lines = [json.loads(line) for line in journal_text(work_dir).splitlines()]
    keys = [line["key"] for line in lines if line["t"] == "entry" and line["usage"]]
    assert len(keys) == len(set(keys))
    return len(keys)
