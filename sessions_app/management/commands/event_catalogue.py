"""Writes the catalogue of events: manage.py event_catalogue > docs/events.md"""

from __future__ import annotations

import inspect
from typing import Any, get_args, get_origin

from django.core.management.base import BaseCommand
from pydantic.fields import FieldInfo

from sessions_app.event_types import ENGINE_EVENT_TYPES, EVENT_TYPES, EventData

HEAD = """\
# Events

Every type of line that a session's log can hold. This page is made from the classes in `sessions_app/event_types.py` by
`manage.py event_catalogue > docs/events.md`; a test fails when it is stale. The envelope of an event, on the socket and over REST, is
`{seq, event_type, timestamp, session_id, run_id, step, data}`; the table says what `data` holds.

A field with a default may be left out by whoever writes the event; readers always find it. Values too large for an event (32 KB) are
cut, and `truncated` beside them says `{field: {size, artifact}}`. "engine" means that a run's own process may say it; everything else
is stated by the services that did it.

| type | says | `data` | from |
|---|---|---|---|
"""


class Command(BaseCommand):
    help = "Print the catalogue of events (docs/events.md)."
    requires_system_checks = ()

    def handle(self, **_: Any) -> None:
        self.stdout.write(event_catalogue(), ending="")


def event_catalogue() -> str:
    return HEAD + "".join(_row(name, cls) for name, cls in EVENT_TYPES.items())


def _row(name: str, cls: type[EventData]) -> str:
    says = inspect.cleandoc(cls.__doc__ or "")
    fields = ", ".join(
        _field(field, info) for field, info in cls.model_fields.items() if field != "truncated"
    )
    source = "engine" if name in ENGINE_EVENT_TYPES else "services"
    return f"| `{name}` | {says} | {fields} | {source} |\n"


def _field(name: str, info: FieldInfo) -> str:
    default = "" if info.is_required() else f" = {info.get_default(call_default_factory=True)!r}"
    return f"`{name}: {_type(info.annotation)}{default}`".replace("|", "\\|")


def _type(annotation: Any) -> str:
    """As it is written in the class."""
    if get_origin(annotation) is not None and not isinstance(annotation, type):
        return str(annotation).replace("typing.", "")
    name = getattr(annotation, "__name__", str(annotation))
    arguments = ", ".join(_type(each) for each in get_args(annotation))
    return f"{name}[{arguments}]" if arguments else name
