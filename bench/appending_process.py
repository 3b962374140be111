"""Writes the log of a deployment through its own services, at a pace: delivery without execution.

`python bench/appending_process.py`, in a deployment's environment and in its program's folder.
Orders come as lines of JSON on stdin, each is answered by a line on stdout. It imports nothing of
the bench: the program may be an older one.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

sys.path[0] = str(Path.cwd())  # the program that is measured, not the folder of this file
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cmbagent_site.settings")

import django  # noqa: E402  after the path

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import transaction  # noqa: E402

from sessions_app.event_types import AgentMessage, Output  # noqa: E402
from sessions_app.hints import keep_one_loop  # noqa: E402
from sessions_app.models import Session  # noqa: E402
from sessions_app.services import append_events  # noqa: E402

FILL_AT_ONCE, TALK_EVERY = 1_000, 100
LONG_LINE = "a line as long as a line of a log often is"


def make(number: int) -> list[str]:
    owner = User.objects.get(username="alice")
    made = [Session(owner=owner, name=f"bench {n}", mode="one-shot") for n in range(number)]
    Session.objects.bulk_create(made)
    return [str(session.pk) for session in made]


def _talk(number: int) -> AgentMessage:
    content = f"Step {number} is done. The **result** is `{number / 7:.3f}`.\n\n* one\n* two\n"
    return AgentMessage(agent="engineer", role="assistant", content=content)


def line_of(number: int, text: str) -> Output:
    return Output(stream="stdout", line=number, text=f"@{time.time():.6f} {text}\n")


def fill(session: str, events: int) -> int:
    """A long log, of which each event has a line as long as a log's often is."""
    last = 0
    for start in range(0, events, FILL_AT_ONCE):
        numbers = range(start + 1, min(start + FILL_AT_ONCE, events) + 1)
        said = [
            line_of(n, f"line {n}: a line as long as a line of a log often is") for n in numbers
        ]
        last = append_events(uuid.UUID(session), said)
    return last


def pace(sessions: list[str], rate: float, seconds: float, together: int) -> dict[str, Any]:
    """One event at a time to each session in turn, `rate` a second in all; `together` in one
    transaction. A writer may be the limit: it stops when its time is over, and the rate that it
    reached is told."""
    ids = [uuid.UUID(session) for session in sessions]
    heads: dict[str, int] = {}
    began, busy = time.time(), time.process_time()
    total, written = int(rate * seconds), 0
    for start in range(0, total, together):
        early = began + start / rate - time.time()
        if early < -seconds / 2:
            break
        time.sleep(max(0.0, early))
        with transaction.atomic():
            for n in range(start, min(start + together, total)):
                target = ids[n % len(ids)]
                heads[str(target)] = append_events(target, [line_of(n + 1, "one of many")])
                written += 1
    took = time.time() - began
    return {"heads": heads, "rate": written / took, "cpu_s": time.process_time() - busy}


def print_lines(session: str, lines: int, rate: float, each: int) -> int:
    """As code prints them: so many lines an event."""
    last, began = 0, time.time()
    for start in range(0, lines, each):
        if (early := began + start / rate - time.time()) > 0:
            time.sleep(early)
        numbers = range(start + 1, start + each + 1)
        text = "".join(f"line {n}: as long as a line of a log often is\n" for n in numbers)
        output = Output(stream="stdout", line=start + 1, text=text)
        last = append_events(uuid.UUID(session), [output])
    return last


ORDERS = {"make": make, "fill": fill, "pace": pace, "print_lines": print_lines}


def main() -> None:
    keep_one_loop()
    for line in sys.stdin:
        order = json.loads(line)
        answer = ORDERS[order.pop("do")](**order)  # type: ignore[operator]  # each its own
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
