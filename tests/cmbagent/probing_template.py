"""A template whose engines, instead of carrying out a run, tell what they are as one line of JSON
on their channel, obey one line from there, and end. The forks and all before are the real ones."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cmbagent import descriptors, engine, template

A_GENERATOR = random.Random(1)  # as a library may keep one from its import on


def facts() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "leads": os.getsid(0) == os.getpgrp() == os.getpid(),
        "environment": dict(os.environ),
        "random": [random.random(), A_GENERATOR.random()],
        "unpredictable": os.urandom(8).hex(),
        "cwd": str(Path.cwd()),
        "zone": time.tzname[0],
        "ignored": sorted(
            signum
            for signum in signal.valid_signals()
            if signal.getsignal(signum) == signal.SIG_IGN
        ),
        "default": signal.getsignal(signal.SIGINT) == signal.SIG_DFL,
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "numpy": "numpy" in sys.modules,
        "threads": threading.active_count(),
    }


def obey(word: str) -> int:
    if word == "leave a stranger":
        program = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)"
        subprocess.run([sys.executable, "-S", "-c", program], check=True)
    elif word == "raise":
        raise ValueError("as told")
    elif word == "hold the interpreter":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        sum(iter(int, 1))
    return int(word) if word.isdigit() else 0


def probe(run_id: str) -> int:
    assert run_id
    with socket.socket(fileno=descriptors.CHANNEL) as channel, channel.makefile("rw") as lines:
        lines.write(json.dumps(facts()) + "\n")
        lines.flush()
        return obey(lines.readline().strip())


if __name__ == "__main__":
    engine.main = probe
    template.main(sys.argv)
