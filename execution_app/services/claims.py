"""What a worker does with a run: claim it, hold it by a lease, write its log, give it back.

Each write begins with one UPDATE that demands attempt, owner and status: it fences, renews the
lease and locks the row in one. The fence does not test expiry: until another attempt begins,
nobody else has the run.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DataError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from cmbagent import __version__ as engine_version
from execution_app.bells import ring_bell
from execution_app.errors import LeaseLost
from execution_app.models import Run
from execution_app.services.files import FoundFile, record_artifacts
from execution_app.services.outcomes import Next, after_crash, settle_session, what_was_asked
from execution_app.statuses import FINAL, RunStatus
from sessions_app.event_types import Error, EventData, Output, RunRecovered, RunStarted
from sessions_app.models import Event
from sessions_app.services import append_events, move_session
from sessions_app.statuses import SessionStatus

NO_MODEL = "no-model"


@dataclass
class Claim:
    """The right to run a run: valid while (run, attempt, owner) stand in its row."""

    run_id: uuid.UUID
    session_id: uuid.UUID
    owner: str
    attempt: int
    batch: int  # number of the last batch that we know is stored
    number: int
    mode: str
    task: str
    config: dict[str, Any]
    console_lines: int  # that earlier attempts left
    before: tuple[str, int | None]  # host and process group of the attempt before


@dataclass(frozen=True)
class Requests:
    """What people asked of the run meanwhile."""

    cancel: bool
    pause: bool
    by: str


def lease_end() -> Any:
    """An expression: one lease from now, by the database's clock."""
    return Now() + timedelta(seconds=settings.LEASE_SECONDS)


def claim_run(*, owner: str, sandbox_level: int | None) -> Claim | None:
    """The next claimable run, now ours; None when there is none."""
    with transaction.atomic():
        run = (
            Run.objects.claimable()
            .in_order_of_service()
            .select_related("session")
            .select_for_update(skip_locked=True, of=("self",))
            .first()
        )
        if run is None:
            return None
        claimed = Run.objects.filter(
            pk=run.pk, status=RunStatus.QUEUED, attempt=run.attempt
        ).update(
            status=RunStatus.RUNNING,
            attempt=F("attempt") + 1,
            lease_owner=owner,
            lease_expires_at=lease_end(),
            host=settings.HOST_NAME,
            interruption="",
            started_at=Coalesce("started_at", Now()),
            engine_version=engine_version,
            sandbox_level=sandbox_level,
        )
        if not claimed:
            return None
        console_lines = last_console_line(run.pk)
        move_session(run.session_id, to=SessionStatus.ACTIVE)
        append_events(run.session_id, _beginning(run, sandbox_level), run_id=run.pk)
    return Claim(
        run_id=run.pk,
        session_id=run.session_id,
        owner=owner,
        attempt=run.attempt + 1,
        batch=run.batch,
        number=run.number,
        mode=run.session.mode,
        task=run.task,
        config=run.config,
        console_lines=console_lines,
        before=(run.host, run.process_group),
    )


def _beginning(run: Run, sandbox_level: int | None) -> list[EventData]:
    """Each attempt begins with run_started; a recovery says so before."""
    started = RunStarted(attempt=run.attempt + 1, sandbox_level=sandbox_level, model=NO_MODEL)
    if not run.interruption:
        return [started]
    return [RunRecovered(attempt=run.attempt + 1, reason=run.interruption), started]


def _held(claim: Claim, **also: Any) -> QuerySet[Run]:
    return Run.objects.filter(
        pk=claim.run_id,
        attempt=claim.attempt,
        lease_owner=claim.owner,
        status=RunStatus.RUNNING,
        **also,
    )


def last_console_line(run_id: uuid.UUID) -> int:
    """The number of the last line that earlier attempts of the run left in its console."""
    event = (
        Event.objects.filter(run_id=run_id, event_type=Output.event_type)
        .order_by("-seq")
        .values_list("data", flat=True)
        .first()
    )
    if event is None:
        return 0
    line, text = int(event["line"]), str(event["text"])
    return line + text.count("\n") - int(text.endswith("\n"))


def record_process_group(claim: Claim, process_group: int) -> None:
    """Who must be gone before another attempt begins on this host. Raises LeaseLost."""
    if not _held(claim).update(process_group=process_group):
        raise LeaseLost


def renew_lease(claim: Claim) -> Requests:
    """One lease more, and what people asked meanwhile. Raises LeaseLost."""
    with transaction.atomic():
        if not _held(claim).update(lease_expires_at=lease_end()):
            raise LeaseLost
        row = Run.objects.values("cancel_requested_at", "pause_requested_at", "requested_by").get(
            pk=claim.run_id
        )
    return Requests(
        cancel=row["cancel_requested_at"] is not None,
        pause=row["pause_requested_at"] is not None,
        by=row["requested_by"],
    )


def record_batch(
    claim: Claim, events: Sequence[EventData], files: Sequence[FoundFile] = ()
) -> None:
    """Store what the engine said, all of it in one transaction. Raises LeaseLost.

    Called again after a commit whose confirmation was lost, it recognises its own batch. Of a
    batch that the database refuses as data, what it refuses alone is replaced by `error`.
    """
    try:
        _store_batch(claim, events, files, _store_together)
    except DataError:
        _store_batch(claim, events, files, _store_one_by_one)


Storing = Callable[[Claim, Sequence[EventData], Sequence[FoundFile]], None]


def _store_batch(
    claim: Claim, events: Sequence[EventData], files: Sequence[FoundFile], store: Storing
) -> None:
    with transaction.atomic():
        stored = _held(claim, batch=claim.batch).update(
            batch=claim.batch + 1, lease_expires_at=lease_end()
        )
        if stored:
            store(claim, events, files)
        elif not _held(claim, batch=claim.batch + 1).exists():
            raise LeaseLost
    claim.batch += 1


def _store_together(claim: Claim, events: Sequence[EventData], files: Sequence[FoundFile]) -> None:
    record_artifacts(claim.session_id, claim.run_id, files)
    if events:
        append_events(claim.session_id, events, run_id=claim.run_id)


def _store_one_by_one(
    claim: Claim, events: Sequence[EventData], files: Sequence[FoundFile]
) -> None:
    """Each under a savepoint of its own: the one that is refused takes no other with it."""
    for file in files:
        _store_or_say(claim, [], [file], f"the file {file.path[:200]!r}")
    for event in events:
        _store_or_say(claim, [event], [], f"an event {event.event_type}")


def _store_or_say(
    claim: Claim, events: Sequence[EventData], files: Sequence[FoundFile], what: str
) -> None:
    try:
        with transaction.atomic():
            _store_together(claim, events, files)
    except DataError as error:
        reason = str(error).partition("\n")[0]
        refused = Error(error_type="not_storable", message=f"{what} was refused: {reason}")
        append_events(claim.session_id, [refused], run_id=claim.run_id)


def release_run(
    claim: Claim,
    to: RunStatus,
    events: Sequence[EventData] = (),
    files: Sequence[FoundFile] = (),
    **columns: Any,
) -> None:
    """running → anything else, by the one who holds the lease. Raises LeaseLost.

    What a person asked meanwhile wins over going on later: a run is not put back to be paused
    or queued when somebody has cancelled it.
    """

    def decide(run: Run) -> Next:
        asked = what_was_asked(run) if to in {RunStatus.PAUSED, RunStatus.QUEUED} else None
        if asked is None or asked.to == to:
            return Next(to, list(events), columns)
        return asked

    _release(claim, decide, files)


def release_crashed(claim: Claim, *, reason: str) -> None:
    """The engine died without an outcome, or we failed it. Raises LeaseLost."""
    _release(claim, lambda run: after_crash(run, reason=reason[:200]))


def _release(claim: Claim, decide: Callable[[Run], Next], files: Sequence[FoundFile] = ()) -> None:
    """Repeating it after a lost confirmation raises LeaseLost, which is true: no longer ours."""
    with transaction.atomic():
        run = _held(claim).select_for_update().first()
        if run is None:
            raise LeaseLost
        chosen = decide(run)
        record_artifacts(claim.session_id, claim.run_id, files)
        write_release(run, chosen)


def write_release(run: Run, chosen: Next, **columns: Any) -> None:
    """The row, the session and the log of a locked running run that ends or goes back."""
    if chosen.to in FINAL:
        columns["finished_at"] = timezone.now()
    Run.objects.filter(pk=run.pk).update(
        status=chosen.to, lease_owner="", lease_expires_at=None, **chosen.columns, **columns
    )
    settle_session(run.session_id, chosen.to)
    if chosen.events:
        append_events(run.session_id, chosen.events, run_id=run.pk)
    ring_bell()  # for this run if it is queued again, else for the next of the session
