"""What an engine says, checked, and the first thing it is told.

An engine has run what a model wrote beside it: no message of its is believed to be well formed.
What is an error here is told without what the message held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import structlog
from django.conf import settings
from pydantic import ValidationError

from cmbagent import wire
from execution_app import sandbox
from execution_app.services import Claim, Finished, Unstorable
from sessions_app.event_types import Error, EventData, parse_event

logger = structlog.get_logger(__name__)

MAX_KEY = 10_000  # characters
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_TOKENS = ("input_tokens", "output_tokens", "cached_tokens")


def start_message(claim: Claim, work_dir: Path, models: dict[str, wire.ModelSpec]) -> wire.Start:
    """It holds the models' keys: nobody logs it."""
    return {
        "t": "start",
        "run_id": str(claim.run_id),
        "session_id": str(claim.session_id),
        "attempt": claim.attempt,
        "run_number": claim.number,
        "mode": claim.mode,
        "task": claim.task,
        "config": claim.config,
        "work_dir": str(work_dir),
        "run_dir": f"runs/{claim.number}",
        "sandbox": sandbox.for_session(claim.session_id),
        "science_env": str(settings.SCIENCE_ENV),
        "data_roots": [str(root) for root in settings.DATA_ROOTS],
        "code_threads": settings.CODE_THREADS,
        "limits": sandbox.limits(),
        "code_approval": False,
        "models": models,
        "spent": claim.spent,
        "journal_entries": claim.journal_entries,
    }


def event_of(message: Mapping[str, Any]) -> EventData:
    """The event, or one that says that it was none."""
    try:
        return parse_event(message["event_type"], message["data"], message.get("step"))
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("engine_event_refused", error=_without_values(error)[:500])
        return Error(error_type="event_refused", message="The engine sent an unknown event.")


def entry_of(message: Mapping[str, Any]) -> Finished | Unstorable:
    """An entry that may be stored and acknowledged; else why not. Another attempt would say the
    same again, and its call would be paid again: the run fails of it."""
    key = message.get("key")
    if not _is_text(key, MAX_KEY):
        return Unstorable("a call", "its key is none")
    if wrong := _wrong_field(message):
        return Unstorable(cast("str", key), f"its {wrong} is none")
    return Finished(cast("wire.Entry", message), [event_of(each) for each in message["events"]])


def _wrong_field(entry: Mapping[str, Any]) -> str | None:
    events = entry.get("events")
    is_right = {
        "kind": entry.get("kind") in get_args(wire.EntryKind),
        "digest": _is_text(entry.get("digest"), 64),
        "payload": "payload" in entry,
        "usage": _is_usage(entry.get("usage")),
        "events": isinstance(events, list) and all(isinstance(each, dict) for each in events),
    }
    return next((field for field, right in is_right.items() if not right), None)


def log_for_engine(message: Mapping[str, Any]) -> None:
    given = message.get("fields")
    fields = given if isinstance(given, dict) else {}
    level = _LEVELS.get(str(message.get("level")), 20)
    named = {f"engine_{name}": value for name, value in fields.items()}
    logger.log(level, str(message.get("event", ""))[:200], **named)


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest


def _is_usage(usage: object) -> bool:
    if usage is None:
        return True
    if not isinstance(usage, dict):
        return False
    names = all(_is_text(usage.get(name), 200) for name in ("agent", "provider", "model"))
    return names and all(_is_count(usage.get(n)) for n in _TOKENS) and _is_cost(usage)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 2**31


def _is_cost(usage: dict[str, Any]) -> bool:
    cost = usage.get("cost_usd", "")
    return cost is None or (isinstance(cost, (int, float)) and cost >= 0 and math.isfinite(cost))


def _without_values(error: Exception) -> str:
    """Where it was wrong, not what stood there."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['type']}"
        for each in error.errors(include_input=False, include_context=False, include_url=False)
    )
