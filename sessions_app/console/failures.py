"""Where code failed: the lines that a person wants to see first."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from execution_app.models import Run
from sessions_app.console.ansi import plain
from sessions_app.console.pages import outputs_of
from sessions_app.console.rows import did_well
from sessions_app.console.search import anchor
from sessions_app.models import Event

_EXECUTIONS = 200
_LOOK_BACK = 50  # events before the end of an execution
_RUNS = 50


@dataclass(frozen=True)
class Failure:
    """An execution that did not succeed, and the last line that it printed to stderr."""

    path: str
    reason: str
    anchor: str  # of that line; empty when it printed nothing


def failures_of(session_id: uuid.UUID) -> list[Failure]:
    """In order, of the newest executions."""
    newest = Run.objects.filter(session=session_id).order_by("-number")[:_RUNS]
    runs = {run.pk: run for run in newest}
    ended = Event.objects.filter(run_id__in=runs, event_type="code_execution").order_by("-seq")
    found: list[Failure] = []
    before = 0  # a session's runs follow each other
    for event in reversed(ended[:_EXECUTIONS]):
        if event.run_id and not did_well(event.data):
            found.append(_failure(runs[event.run_id], event, since=before))
        before = event.seq
    return found


def _failure(run: Run, ended: Event, *, since: int) -> Failure:
    path = str(ended.data["path"]).rpartition("/")[2]
    last = _last_words(run, since=since, before=ended.seq)
    if last is None:
        return Failure(path, str(ended.data["ended_by"]).replace("_", " "), "")
    text = last.data["text"].rstrip()
    number = last.data["line"] + text.count("\n")
    return Failure(path, plain(text.rpartition("\n")[2])[:200], anchor(run.number, number))


def _last_words(run: Run, *, since: int, before: int) -> Event | None:
    printed = outputs_of(run).filter(seq__gt=since, seq__lt=before).order_by("-seq")[:_LOOK_BACK]
    errors = [event for event in printed if event.data["stream"] == "stderr"]
    return next(iter([*errors, *printed]), None)
