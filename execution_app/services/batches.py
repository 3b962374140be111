"""Storing what an engine said: a batch, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from django.db import DataError, IntegrityError, transaction

from execution_app.errors import EntryRefused, LeaseLost
from execution_app.models import Run
from execution_app.services.claims import Claim, held, lease_end, write_release
from execution_app.services.files import FoundFile, record_artifacts
from execution_app.services.journal import Finished, Rows, keep_entry
from execution_app.services.outcomes import failed
from execution_app.services.steps import follow_steps
from sessions_app.event_types import Error, EventData, RunFailed, storable
from sessions_app.services import append_events

logger = structlog.get_logger(__name__)

REFUSED_AS_DATA = (DataError, IntegrityError)


@dataclass(frozen=True)
class Unstorable:
    """A finished call that the journal cannot take."""

    key: str
    reason: str


Part = EventData | Rows | Unstorable
Storing = Callable[[Claim, Sequence[Part], Sequence[FoundFile]], Unstorable | None]


def record_batch(
    claim: Claim, said: Sequence[EventData | Finished | Unstorable], files: Sequence[FoundFile] = ()
) -> None:
    """Store what the engine said, all of it in one transaction: events, finished calls with what
    they took, steps, files. Raises LeaseLost.

    Called again after a commit whose confirmation was lost, it recognises its own batch. Of a
    batch that the database refuses as data, an event that it refuses alone is replaced by
    `error`. An entry that it refuses fails the run, where it stands, and raises EntryRefused: the
    engine waits for that entry, and another attempt would only make the call again.
    """
    parts = [part for item in said for part in _parts(item)]
    takes_all = not any(isinstance(part, Unstorable) for part in parts)
    try:
        refused = _store_batch(
            claim, parts, files, _store_together if takes_all else _store_one_by_one
        )
    except REFUSED_AS_DATA:
        refused = _store_batch(claim, parts, files, _store_one_by_one)
    if refused:
        logger.error("entry_refused", key=refused.key[:200], reason=refused.reason)
        raise EntryRefused


def _parts(item: EventData | Finished | Unstorable) -> list[Part]:
    """An entry comes right before the events that tell of it."""
    if isinstance(item, (EventData, Unstorable)):
        return [item]
    try:
        return [Rows.of(item), *item.events]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        return [Unstorable(str(item.entry["key"]), f"{type(error).__name__}: {error}"[:500])]


def _store_batch(
    claim: Claim, parts: Sequence[Part], files: Sequence[FoundFile], store: Storing
) -> Unstorable | None:
    """The entry that was refused, if one was."""
    refused = None
    goes_on = {"crashes": 0, "postponements": 0} if any(isinstance(p, Rows) for p in parts) else {}
    with transaction.atomic():
        stored = held(claim, batch=claim.batch).update(
            batch=claim.batch + 1, lease_expires_at=lease_end(), **goes_on
        )
        if stored:
            refused = store(claim, parts, files)
        elif not held(claim, batch=claim.batch + 1).exists():
            raise LeaseLost
    claim.batch += 1
    return refused


def _store_together(claim: Claim, parts: Sequence[Part], files: Sequence[FoundFile]) -> None:
    record_artifacts(claim.session_id, claim.run_id, files)
    for part in parts:
        if isinstance(part, Rows):
            keep_entry(claim.run_id, part)
    _append(claim, [part for part in parts if isinstance(part, EventData)])


def _append(claim: Claim, events: Sequence[EventData]) -> None:
    if events:
        follow_steps(claim.run_id, events)
        append_events(claim.session_id, events, run_id=claim.run_id)


def _store_one_by_one(
    claim: Claim, parts: Sequence[Part], files: Sequence[FoundFile]
) -> Unstorable | None:
    """Each under a savepoint of its own: an event or file that is refused takes no other with it.
    After an entry that is refused there is nothing more: the run ends there."""
    for file in files:
        _store_or_say(claim, [], [file], f"the file {file.path[:200]!r}")
    for part in parts:
        if isinstance(part, EventData):
            _store_or_say(claim, [part], [], f"an event {part.event_type}")
        elif refused := _refusal_of(claim, part):
            _fail(claim, refused)
            return refused
    return None


def _store_or_say(
    claim: Claim, events: Sequence[EventData], files: Sequence[FoundFile], what: str
) -> None:
    try:
        with transaction.atomic():
            _store_together(claim, events, files)
    except REFUSED_AS_DATA as error:
        refused = Error(error_type="not_storable", message=f"{what} was refused: {_reason(error)}")
        append_events(claim.session_id, [refused], run_id=claim.run_id)


def _refusal_of(claim: Claim, part: Rows | Unstorable) -> Unstorable | None:
    if isinstance(part, Unstorable):
        return part
    try:
        with transaction.atomic():
            keep_entry(claim.run_id, part)
    except REFUSED_AS_DATA as error:
        return Unstorable(part.finished.entry["key"], _reason(error))
    return None


def _fail(claim: Claim, refused: Unstorable) -> None:
    run = Run.objects.get(pk=claim.run_id)  # the fence has locked it
    failure = RunFailed(
        error_type="journal_refused",
        message=f"What {storable(refused.key)[:200]} returned could not be stored: "
        f"{storable(refused.reason)}",
        suggestion="This is a fault of the program, not of your task. Tell the operator.",
    )
    write_release(run, failed(failure))


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0]
