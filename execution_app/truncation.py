"""No event over 32 KB: what is larger becomes an artifact with its head in the event."""

from __future__ import annotations

import hashlib

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
        texts = {k: v for k, v in data.items() if isinstance(v, str) and k not in truncated}
        if not texts:
            return Error(error_type="event_too_large", message=f"{event.event_type} was cut"), files
        field = max(texts, key=lambda name: len(texts[name]))
        file = _as_file(texts[field], folder)
        files.append(file)
        truncated[field] = {"size": file.size, "artifact": file.path}
        data[field] = texts[field][:HEAD_CHARACTERS]
    if truncated:
        cut = type(event).model_validate({**data, "truncated": truncated})
        return cut.in_step(event.step), files
    return event, files


def _as_file(text: str, folder: str) -> FoundFile:
    content = text.encode()
    name = hashlib.sha256(content).hexdigest()[:12]
    return store_bytes(f"{folder}/values/{name}.txt", content)
