"""Engines that a test writes: a real process with real pipes, which says what the test wants.

run = supervised(claim, 'entry("a#0", 1)\\nhear()\\ncomplete()')
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

from execution_app import control, engine_process, supervisor, worker
from execution_app.models import JournalEntry, Run
from execution_app.services import Claim, work_dir

PRELUDE = """
import json, os, signal, socket, sys, threading, time
channel = socket.socket(fileno=int(sys.argv[2]))
lines = channel.makefile("rb")

def say(**message):
    channel.sendall(json.dumps(message).encode() + b"\\n")

def hear():
    return json.loads(lines.readline() or "null")

def event(n):
    return {"event_type": "phase_changed", "data": {"phase": str(n)}, "step": None}

def entry(key, payload=None, events=(), **changes):
    fields = {"kind": "tool", "digest": "0" * 64, "usage": None}
    say(t="entry", key=key, payload=payload, events=list(events), **(fields | changes))

def complete(**result):
    say(t="outcome", kind="completed", summary="", result=result)
    channel.close()

start = hear()
"""


def supervised(claim: Claim, script: str) -> Run:
    """The run after a supervisor has seen an engine through that does what the script says."""
    folder = Path(work_dir(claim.session_id)).parent / "scripted"
    (folder / "cmbagent").mkdir(parents=True, exist_ok=True)
    (folder / "cmbagent" / "__init__.py").touch()
    (folder / "cmbagent" / "engine.py").write_text(PRELUDE + script)

    def environment(home: Path) -> dict[str, str]:
        return engine_process.engine_environment(home) | {"PYTHONPATH": str(folder)}

    with (
        mock.patch.object(supervisor, "engine_environment", environment),
        control.listen() as nudges,
    ):
        worker.supervise(claim, nudges)
    return Run.objects.get(pk=claim.run_id)


def keys_of(claim: Claim) -> list[str]:
    return list(
        JournalEntry.objects.filter(run_id=claim.run_id)
        .order_by("pk")
        .values_list("key", flat=True)
    )
