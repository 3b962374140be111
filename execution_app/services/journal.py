"""What a run remembers: entries of finished calls, kept once and given back as they were."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from cmbagent import wire
from execution_app.errors import JournalDamaged
from execution_app.models import JournalEntry, Run, Step, Usage
from execution_app.services.files import read_blob, store_blob
from execution_app.statuses import StepStatus
from sessions_app.event_types import EventData, storable

ROW_BYTES = 64 * 1024  # a larger payload is a blob
READ_AT_ONCE = 50  # entries
MAX_COST_USD = 1e6  # of one call: more is a mistake
COST_GRAIN = Decimal("1e-12")
_ESCAPED = re.compile("[\\\\\x00\ud800-\udfff]")  # what a key may hold and no database takes
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")


@dataclass(frozen=True)
class Finished:
    """A finished call on its way into the journal, and the events that are stored with it."""

    entry: wire.Entry
    events: Sequence[EventData]

    @property
    def step(self) -> str | None:
        """In which step of the run it was made, as its events say."""
        return next((event.step for event in self.events if event.step), None)


@dataclass(frozen=True)
class Rows:
    """What a finished call becomes, but for its events. Made before any transaction: the bytes of
    a large payload are on the disk by then."""

    finished: Finished
    entry: dict[str, Any]
    usage: dict[str, Any] | None
    prompt_hash: dict[str, str]  # by agent; of an entry that is no prompt: empty

    @classmethod
    def of(cls, finished: Finished) -> Rows:
        """Raises ValueError when it is not what a journal takes, OSError when the disk is full."""
        entry = finished.entry
        prompt = entry["payload"] if entry["kind"] == "prompt" else None
        return cls(
            finished,
            _entry_columns(entry) | {"step": finished.step},
            _usage_columns(entry["usage"]) if entry["usage"] else None,
            {storable(prompt["agent"]): storable(prompt["hash"])} if prompt else {},
        )


def _entry_columns(entry: wire.Entry) -> dict[str, Any]:
    text = json.dumps(entry["payload"], separators=(",", ":"), allow_nan=False)
    is_large = len(text) > ROW_BYTES  # ASCII: characters are bytes
    return {
        "key": escaped(entry["key"]),
        "key_digest": _digest(entry["key"]),
        "kind": entry["kind"],
        "digest": entry["digest"],
        "payload": "" if is_large else text,
        "payload_sha256": store_blob(text.encode("ascii")) if is_large else "",
        "size": len(text),
    }


def _usage_columns(usage: wire.Usage) -> dict[str, Any]:
    return {
        "agent": storable(usage["agent"])[:200],
        "provider": storable(usage["provider"])[:40],
        "model": storable(usage["model"])[:200],
        "input_tokens": usage["input_tokens"],
        "output_tokens": usage["output_tokens"],
        "cached_tokens": usage["cached_tokens"],
        "cost_usd": _cost(usage["cost_usd"]),
    }


def _cost(cost_usd: float | None) -> Decimal | None:
    if cost_usd is None:
        return None
    if not 0 <= cost_usd <= MAX_COST_USD:
        raise ValueError(f"one call cost {cost_usd} USD")
    return Decimal(repr(cost_usd)).quantize(COST_GRAIN)


# -- in ---------------------------------------------------------------------------------------
def keep_entry(run_id: uuid.UUID, rows: Rows) -> None:
    """The caller holds the run's lock and stores the events."""
    entry = JournalEntry.objects.create(run_id=run_id, **rows.entry)
    if rows.usage:
        Usage.objects.create(
            run_id=run_id, entry=entry, key=entry.key, step=entry.step, **rows.usage
        )
    if rows.prompt_hash:
        known = Run.objects.values_list("prompt_hashes", flat=True).get(pk=run_id)
        Run.objects.filter(pk=run_id).update(prompt_hashes=known | rows.prompt_hash)


# -- out --------------------------------------------------------------------------------------
def journal_of(run_id: uuid.UUID) -> Iterator[wire.Entry]:
    """What was finished, in the order in which it was: a few entries in memory at a time.

    Raises JournalDamaged when a payload cannot be read.
    """
    entries = JournalEntry.objects.filter(run_id=run_id).select_related("usage")
    last = 0
    while some := list(entries.after(last)[:READ_AT_ONCE]):
        yield from (_given_back(row) for row in some)
        last = some[-1].pk


def _given_back(row: JournalEntry) -> wire.Entry:
    kind: Any = row.kind  # one of wire.EntryKind: it came as one
    return {
        "t": "entry",
        "key": unescaped(row.key),
        "kind": kind,
        "digest": row.digest,
        "payload": _payload_of(row),
        "usage": _usage_of(row),
        "events": [],
    }


def _payload_of(row: JournalEntry) -> Any:
    try:
        return json.loads(read_blob(row.payload_sha256) if row.payload_sha256 else row.payload)
    except (OSError, ValueError) as error:
        raise JournalDamaged(unescaped(row.key)) from error


def _usage_of(row: JournalEntry) -> wire.Usage | None:
    try:
        return _as_sent(row.usage)
    except Usage.DoesNotExist:
        return None


def spent_on_forgotten(run_id: uuid.UUID) -> list[wire.Usage]:
    """What calls of the run took that it does not remember any more."""
    usages = Usage.objects.filter(run_id=run_id, entry=None).order_by("pk")
    return [_as_sent(usage) for usage in usages]


def _as_sent(usage: Usage) -> wire.Usage:
    return {
        "agent": usage.agent,
        "provider": usage.provider,
        "model": usage.model,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "cost_usd": None if usage.cost_usd is None else float(usage.cost_usd),
    }


# -- forgetting -------------------------------------------------------------------------------
def forget_from(run_id: uuid.UUID, key: str) -> int:
    """Forget a call, the calls it made and all that was finished after it; how many entries.

    `key` as it is stored. What the calls cost stays: it was paid. Their steps wait again.
    """
    entries = JournalEntry.objects.filter(run_id=run_id)
    first = entries.filter(key_digest=_digest(unescaped(key))).first()
    if first is None:
        return 0
    # not key__startswith: SQLite's LIKE takes A for a
    before = entries.filter(pk__lt=first.pk).values_list("pk", "key")
    inside = [pk for pk, other in before.iterator() if other.startswith(f"{key}/")]
    doomed = entries.filter(pk__gte=first.pk) | entries.filter(pk__in=inside)
    steps = set(doomed.filter(kind="step").values_list("step", flat=True)) - {None}
    _wait_again(run_id, {int(step) for step in steps if step and step.isdecimal()})
    Usage.objects.filter(entry__in=doomed).update(entry=None)
    return doomed.delete()[0]


def _wait_again(run_id: uuid.UUID, indexes: set[int]) -> None:
    Step.objects.filter(run_id=run_id, index__in=indexes).update(
        status=StepStatus.PENDING, finished_at=None
    )


# -- keys -------------------------------------------------------------------------------------
def escaped(key: str) -> str:
    """A key as both databases take it; a step's title may hold anything."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", key)


def unescaped(key: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), key)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
