"""What a worker does with a run: claim it, hold it by a lease, write its log, give it back.

Each write begins with one UPDATE that demands attempt, owner and status: it fences, renews the
lease and locks the row in one. The fence does not test expiry: until another attempt begins,
nobody else has the run.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from cmbagent import __version__ as engine_version
from cmbagent.wire import Failure, Usage
from execution_app.bells import ring_bell
from execution_app.errors import LeaseLost
from execution_app.models import JournalEntry, Run
from execution_app.services.files import FoundFile, record_artifacts
from execution_app.services.journal import spent_on_forgotten
from execution_app.services.outcomes import (
    Next,
    after_crash,
    after_postponement,
    seconds_from_now,
    settle_session,
    what_was_asked,
)
from execution_app.services.steps import end_steps, leave_steps
from execution_app.statuses import FINAL, RunStatus
from sessions_app.event_types import EventData, Output, RunRecovered, RunStarted, storable
from sessions_app.models import Event
from sessions_app.modes import NO_MODEL
from sessions_app.services import append_events, move_session
from sessions_app.statuses import SessionStatus


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
    journal_entries: int
    spent: list[Usage]  # by calls that are forgotten
    before: tuple[str, int | None]  # host and process group of the attempt before


@dataclass(frozen=True)
class Requests:
    """What people asked of the run meanwhile."""

    cancel: bool
    pause: bool
    by: str


def lease_end() -> Any:
    """An expression: one lease from now, by the database's clock."""
    return seconds_from_now(settings.LEASE_SECONDS)


def claim_run(
    *,
    owner: str,
    sandbox_level: int | None,
    name_model: Callable[[Mapping[str, Any]], str] = lambda _: NO_MODEL,
) -> Claim | None:
    """The next claimable run, now ours; None when there is none. `name_model` says from a run's
    config what its model is called."""
    with transaction.atomic():
        run = _lock_next()
        if run is None:
            return None
        model = storable(name_model(run.config))[:200]
        if not _take(run, owner=owner, sandbox_level=sandbox_level, model=model):
            return None
        claim = _claim_of(run, owner)
        move_session(run.session_id, to=SessionStatus.ACTIVE)
        append_events(run.session_id, _beginning(run, sandbox_level, model), run_id=run.pk)
    return claim


def _lock_next() -> Run | None:
    return (
        Run.objects.claimable()
        .in_order_of_service()
        .select_related("session")
        .select_for_update(skip_locked=True, of=("self",))
        .first()
    )


def _take(run: Run, *, owner: str, sandbox_level: int | None, model: str) -> int:
    """The row says from now on that the run is the owner's; 0 when it is not as it was read."""
    unchanged = Run.objects.filter(pk=run.pk, status=RunStatus.QUEUED, attempt=run.attempt)
    return unchanged.update(
        status=RunStatus.RUNNING,
        attempt=F("attempt") + 1,
        lease_owner=owner,
        lease_expires_at=lease_end(),
        host=settings.HOST_NAME,
        interruption="",
        not_before=None,
        started_at=Coalesce("started_at", Now()),
        engine_version=engine_version,
        sandbox_level=sandbox_level,
        model=model,
    )


def _claim_of(run: Run, owner: str) -> Claim:
    """Of a run as it was before it was taken."""
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
        console_lines=last_console_line(run.pk),
        journal_entries=JournalEntry.objects.filter(run=run).count(),
        spent=spent_on_forgotten(run.pk),
        before=(run.host, run.process_group),
    )


def _beginning(run: Run, sandbox_level: int | None, model: str) -> list[EventData]:
    """Each attempt begins with run_started; a recovery says so before."""
    started = RunStarted(attempt=run.attempt + 1, sandbox_level=sandbox_level, model=model)
    if not run.interruption:
        return [started]
    return [RunRecovered(attempt=run.attempt + 1, reason=run.interruption), started]


def held(claim: Claim, **also: Any) -> QuerySet[Run]:
    """The claim's run while it is the claim's: the fence."""
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
    if not held(claim).update(process_group=process_group):
        raise LeaseLost


def renew_lease(claim: Claim) -> Requests:
    """One lease more, and what people asked meanwhile. Raises LeaseLost."""
    with transaction.atomic():
        if not held(claim).update(lease_expires_at=lease_end()):
            raise LeaseLost
        row = Run.objects.values("cancel_requested_at", "pause_requested_at", "requested_by").get(
            pk=claim.run_id
        )
    return Requests(
        cancel=row["cancel_requested_at"] is not None,
        pause=row["pause_requested_at"] is not None,
        by=row["requested_by"],
    )


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


def postpone_run(claim: Claim, failure: Failure, retry_after_s: float | None) -> None:
    """What is in the way goes by: the run waits in the queue, held by nobody, and goes on from
    its journal. Too often without anything finished in between, it fails. Raises LeaseLost."""
    _release(claim, lambda run: after_postponement(run, failure, retry_after_s))


def release_crashed(claim: Claim, *, reason: str) -> None:
    """The engine died without an outcome, or we failed it. Raises LeaseLost."""
    _release(claim, lambda run: after_crash(run, reason=reason[:200]))


def _release(claim: Claim, decide: Callable[[Run], Next], files: Sequence[FoundFile] = ()) -> None:
    """Repeating it after a lost confirmation raises LeaseLost, which is true: no longer ours."""
    with transaction.atomic():
        run = held(claim).select_for_update().first()
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
    events = [*_left(run, chosen), *chosen.events]
    settle_session(run.session_id, chosen.to)
    if events:
        append_events(run.session_id, events, run_id=run.pk)
    ring_bell()  # for this run if it is queued again, else for the next of the session


def _left(run: Run, chosen: Next) -> list[EventData]:
    """What becomes of the steps it was in."""
    if chosen.to in FINAL:
        return end_steps(run.pk, chosen.to, error=chosen.columns.get("error_message", ""))
    leave_steps(run.pk)
    return []
