"""What a worker does with a run: claim it, hold it by a lease, write its log, give it back.

Each write begins with one UPDATE that demands attempt, owner and status: it fences, renews the
lease and locks the row in one. The fence does not test expiry: until another attempt begins,
nobody else has the run.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
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

    Called again after a commit whose confirmation was lost, it recognises its own batch. A batch
    that the database refuses as data is split, and the one bad event replaced by `error`.
    """
    try:
        _store_batch(claim, events, files)
    except DataError as error:
        if len(events) > 1:
            middle = len(events) // 2
            record_batch(claim, events[:middle], files)
            record_batch(claim, events[middle:])
        else:
            _store_batch(claim, [_refused(event, error) for event in events], ())


def _refused(event: EventData, error: DataError) -> Error:
    reason = str(error).partition("\n")[0]
    return Error(error_type="not_storable", message=f"a {event.event_type} was lost: {reason}")


def _store_batch(claim: Claim, events: Sequence[EventData], files: Sequence[FoundFile]) -> None:
    with transaction.atomic():
        stored = _held(claim, batch=claim.batch).update(
            batch=claim.batch + 1, lease_expires_at=lease_end()
        )
        if stored:
            record_artifacts(claim.session_id, claim.run_id, files)
            append_events(claim.session_id, events, run_id=claim.run_id)
        elif not _held(claim, batch=claim.batch + 1).exists():
            raise LeaseLost
    claim.batch += 1


def release_run(
    claim: Claim, to: RunStatus, events: Sequence[EventData] = (), **fields: Any
) -> None:
    """running → anything else, by the one who holds the lease. Raises LeaseLost.

    Repeating it after a lost confirmation raises LeaseLost, which is true: it is no longer ours.
    """
    if to in FINAL:
        fields["finished_at"] = timezone.now()
    with transaction.atomic():
        released = _held(claim).update(status=to, lease_owner="", lease_expires_at=None, **fields)
        if not released:
            raise LeaseLost
        settle_session(claim.session_id, to)
        append_events(claim.session_id, events, run_id=claim.run_id)
        ring_bell()  # for this run if it is queued again, else for the next of the session


def settle_session(session_id: uuid.UUID, outcome: RunStatus) -> None:
    """What the end of a run means for its session (architecture.md section 4)."""
    match outcome:
        case RunStatus.COMPLETED:
            move_session(session_id, to=SessionStatus.COMPLETED)
        case RunStatus.FAILED | RunStatus.CANCELLED:
            if not Run.objects.live().filter(session_id=session_id).exists():
                move_session(session_id, to=SessionStatus.SUSPENDED)
