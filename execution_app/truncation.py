"""No event over 32 KB: what is larger becomes an artifact with its head in the event."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from execution_app.services import FoundFile, store_bytes
from sessions_app.event_types import MAX_EVENT_BYTES, Error, EventData, encoded_size

HEAD_CHARACTERS = 2_000
ROOM_BYTES = 1_024  # for the names around the values


def bounded(event: EventData, *, folder: str) -> tuple[EventData, list[FoundFile]]:
    """The event as it may be stored, and the files that hold what was cut from it."""
    data = event.stored()
    files: list[FoundFile] = []
    truncated: dict[str, dict[str, str | int]] = {}
    while encoded_size(data) > MAX_EVENT_BYTES - ROOM_BYTES:
        whole = {k: v for k, v in data.items() if _can_be_cut(v) and k not in truncated}
        if not whole:
            error = Error(error_type="event_too_large", message=f"{event.event_type} was cut")
            return error.in_step(event.step), files
        field = max(whole, key=lambda name: encoded_size(whole[name]))
        file = _as_file(whole[field], folder)
        files.append(file)
        truncated[field] = {"size": file.size, "artifact": file.path}
        data[field] = _head(whole[field])
    if truncated:
        cut = type(event).model_validate({**data, "truncated": truncated})
        return cut.in_step(event.step), files
    return event, files


def _can_be_cut(value: object) -> bool:
    return isinstance(value, (str, dict))


def _head(value: Any) -> Any:
    """Of a text its beginning; of the arguments of a call theirs, while these are few enough."""
    if isinstance(value, str):
        return value[:HEAD_CHARACTERS]
    heads = {k: v[:HEAD_CHARACTERS] if isinstance(v, str) else v for k, v in value.items()}
    return heads if encoded_size(heads) <= MAX_EVENT_BYTES // 2 else {}


def _as_file(value: Any, folder: str) -> FoundFile:
    suffix, text = ("txt", value) if isinstance(value, str) else ("json", json.dumps(value))
    content = text.encode()
    name = hashlib.sha256(content).hexdigest()[:12]
    return store_bytes(f"{folder}/values/{name}.{suffix}", content)
