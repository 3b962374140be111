"""Finished calls as an engine tells them."""

from __future__ import annotations

import hashlib
from typing import Any

from cmbagent import wire
from execution_app.services import Finished
from sessions_app.event_types import EventData


def usage(**changes: Any) -> wire.Usage:
    told: wire.Usage = {
        "agent": "engineer",
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 10,
        "cost_usd": 0.0015,
    }
    return {**told, **changes}  # type: ignore[typeddict-item]  # the same keys


def finished(key: str, payload: Any = "answer", *events: EventData, **changes: Any) -> Finished:
    """A model call of this key that took nothing, unless `usage` says what."""
    entry: wire.Entry = {
        "t": "entry",
        "key": key,
        "kind": "model",
        "digest": hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest(),
        "payload": payload,
        "usage": None,
        "events": [],
    }
    return Finished({**entry, **changes}, list(events))  # type: ignore[typeddict-item]  # same
