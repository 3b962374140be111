"""Runs and what they made."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Self

from django.db import models
from django.db.models import (
    BigIntegerField,
    Case,
    Count,
    DecimalField,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Q,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from execution_app.statuses import FINAL, LIVE, OCCUPYING, STEP_ENDED, RunStatus, StepStatus
from sessions_app.models import Session

ZERO = Value(Decimal(0), output_field=DecimalField())


class RunQuerySet(models.QuerySet["Run"]):
    def live(self) -> Self:
        return self.filter(status__in=LIVE)

    def claimable(self) -> Self:
        """Queued, due, and no other run of the session occupies its work directory."""
        occupied = self.model.objects.filter(
            session_id=OuterRef("session_id"), status__in=OCCUPYING
        ).order_by()
        return self.filter(
            Q(not_before__isnull=True) | Q(not_before__lte=Now()),
            ~Exists(occupied),
            session__deleted_at__isnull=True,
            status=RunStatus.QUEUED,
        )

    def in_order_of_service(self) -> Self:
        """Runs that were interrupted come first (a person watches them), then owners with the
        least running, then the oldest."""
        running = (
            self.model.objects.filter(
                status=RunStatus.RUNNING, session__owner_id=OuterRef("session__owner_id")
            )
            .order_by()
            .values("session__owner_id")
            .annotate(n=Count("pk"))
            .values("n")
        )
        return self.annotate(
            owner_running=Coalesce(Subquery(running, output_field=IntegerField()), Value(0)),
            is_interrupted=~Q(interruption=""),
        ).order_by("-is_interrupted", "owner_running", "queued_at", "pk")

    def expired(self) -> Self:
        return self.filter(status=RunStatus.RUNNING, lease_expires_at__lt=Now())

    def with_costs(self) -> Self:
        """Each with `cost_usd` (None: not known) and `total_tokens` of its model calls."""
        calls = Usage.objects.filter(run_id=OuterRef("pk")).order_by().values("run_id")
        return self.annotate(
            cost_usd=Case(
                When(Exists(calls.filter(cost_usd__isnull=True)), then=None),
                default=Coalesce(Subquery(calls.annotate(n=Sum("cost_usd")).values("n")), ZERO),
                output_field=DecimalField(),
            ),
            total_tokens=Coalesce(
                Subquery(
                    calls.annotate(n=Sum(F("input_tokens") + F("output_tokens"))).values("n"),
                    output_field=BigIntegerField(),
                ),
                Value(0),
            ),
        )


class Run(models.Model):
    """One execution of a task in a session."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    session = models.ForeignKey(Session, on_delete=models.PROTECT)
    number = models.IntegerField()  # 1, 2, 3 … in its session; names its folder runs/<number>
    task = models.TextField()
    config = models.JSONField(default=dict, blank=True)
    status = models.CharField(max_length=16, choices=RunStatus, default=RunStatus.QUEUED)
    attempt = models.IntegerField(default=0)  # +1 at each claim and repair: it fences
    crashes = models.IntegerField(default=0)  # what the limit counts
    postponements = models.IntegerField(default=0)  # since the last entry of its journal
    batch = models.BigIntegerField(default=0)  # last batch stored: a repeated commit is recognised
    interruption = models.CharField(
        max_length=200, blank=True
    )  # why the next attempt is a recovery
    lease_owner = models.CharField(max_length=400, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    host = models.CharField(max_length=300, blank=True)  # of the last attempt
    process_group = models.IntegerField(null=True, blank=True)  # of the last attempt's engine
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    pause_requested_at = models.DateTimeField(null=True, blank=True)
    requested_by = models.CharField(max_length=150, blank=True)
    queued_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    result = models.JSONField(null=True, blank=True)
    error_type = models.CharField(max_length=60, blank=True)
    error_message = models.TextField(blank=True)
    error_suggestion = models.TextField(blank=True)
    error_retryable = models.BooleanField(default=False)
    retry_from = models.TextField(blank=True)  # key of the entry from which a retry begins anew
    engine_version = models.CharField(max_length=40, blank=True)
    sandbox_level = models.SmallIntegerField(null=True, blank=True)
    model = models.CharField(max_length=200, blank=True)  # of the last attempt's default role
    prompt_hashes = models.JSONField(default=dict, blank=True)  # agent: sha256 of its prompt

    objects = RunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "number"], name="run_number_once"),
            models.UniqueConstraint(
                fields=["session"], condition=Q(status__in=OCCUPYING), name="one_run_occupies"
            ),
            models.UniqueConstraint(
                fields=["session"], condition=Q(status=RunStatus.QUEUED), name="one_run_queued"
            ),
            models.CheckConstraint(
                condition=Q(status__in=RunStatus.values), name="run_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status=RunStatus.RUNNING, lease_expires_at__isnull=False)
                | ~Q(status=RunStatus.RUNNING) & Q(lease_owner="", lease_expires_at__isnull=True),
                name="lease_iff_running",
            ),
            models.CheckConstraint(
                condition=Q(status__in=FINAL, finished_at__isnull=False)
                | Q(status__in=LIVE, finished_at__isnull=True),
                name="finished_at_iff_final",
            ),
        ]
        indexes = [
            # claim_run and the reaper look only at these few among all runs there ever were
            models.Index(
                fields=["queued_at"], condition=Q(status=RunStatus.QUEUED), name="run_queued_idx"
            ),
            models.Index(
                fields=["lease_expires_at"],
                condition=Q(status=RunStatus.RUNNING),
                name="run_running_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"run {self.number} of {self.session_id}"

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    @property
    def is_stopping(self) -> bool:
        return self.status == RunStatus.RUNNING and self.cancel_requested_at is not None

    @property
    def folder(self) -> str:
        """Where its code lies, relative to the session's work directory."""
        return f"runs/{self.number}"


class Step(models.Model):
    """A step of a run's plan, as its log last told of it."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, db_index=False)  # has one below
    index = models.IntegerField()  # 1, 2, 3 … in its run
    title = models.TextField()
    agent = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=12, choices=StepStatus, default=StepStatus.PENDING)
    attempts = models.IntegerField(default=0)  # how often it began
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    summary = models.TextField(blank=True)
    error = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "index"], name="step_index_once"),
            models.CheckConstraint(
                condition=Q(status__in=StepStatus.values), name="step_status_known"
            ),
            models.CheckConstraint(
                condition=Q(status__in=STEP_ENDED, finished_at__isnull=False)
                | ~Q(status__in=STEP_ENDED) & Q(finished_at__isnull=True),
                name="step_finished_at_iff_ended",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.index} {self.title[:80]}"


class JournalEntryQuerySet(models.QuerySet["JournalEntry"]):
    def after(self, entry_id: int) -> Self:
        """What was finished after it: one attempt writes at a time, so ids follow commits."""
        return self.filter(pk__gt=entry_id).order_by("pk")


class JournalEntry(models.Model):
    """A call that is finished: its answer is given again, the call is never made again.

    The payload is text, not a JSON column: PostgreSQL's jsonb refuses \\u0000 and lone surrogates,
    and what is given again must be what was given.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, db_index=False)  # has one below
    key = models.TextField()  # as escaped by services.journal
    key_digest = models.CharField(max_length=64)  # sha256: a key may be too long for an index
    kind = models.CharField(max_length=20)
    step = models.CharField(max_length=200, null=True)  # noqa: DJ001  as in the log
    digest = models.CharField(max_length=64)  # of the arguments
    payload = models.TextField(blank=True)  # ASCII JSON
    payload_sha256 = models.CharField(max_length=64, blank=True)  # of the blob that has it instead
    size = models.BigIntegerField()  # of the payload, in bytes
    created_at = models.DateTimeField(default=timezone.now)

    objects = JournalEntryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "journal entries"
        constraints = [
            # a call has one answer, whoever else may think that it runs the run
            models.UniqueConstraint(fields=["run", "key_digest"], name="entry_key_once"),
            # an entry without its answer would be replayed as a wrong one
            models.CheckConstraint(
                condition=~Q(payload="") & Q(payload_sha256="")
                | Q(payload="") & ~Q(payload_sha256=""),
                name="entry_payload_here_or_in_a_blob",
            ),
        ]
        indexes = [
            models.Index(fields=["run", "id"], name="entry_in_order_idx"),  # a replay
            # the clean-up asks who still names a blob
            models.Index(
                fields=["payload_sha256"], condition=~Q(payload_sha256=""), name="entry_blob_idx"
            ),
        ]

    def __str__(self) -> str:
        return self.key[:200]


class Usage(models.Model):
    """What one model call took. The cost is null when nobody knows the price, never 0 for that.

    It outlives its entry: a retry may forget an answer, the money was spent.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE)
    # one for one call: with the entry it is stored once, however often an attempt is killed
    entry = models.OneToOneField(JournalEntry, null=True, blank=True, on_delete=models.SET_NULL)
    key = models.TextField()  # of the call
    step = models.CharField(max_length=200, null=True)  # noqa: DJ001  as in the log
    agent = models.CharField(max_length=200)
    provider = models.CharField(max_length=40)
    model = models.CharField(max_length=200)
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()  # of the input
    cost_usd = models.DecimalField(max_digits=20, decimal_places=12, null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "usage"
        constraints = [
            # sums that people pay for
            models.CheckConstraint(
                condition=Q(input_tokens__gte=0, output_tokens__gte=0, cached_tokens__gte=0),
                name="usage_tokens_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(cost_usd__isnull=True) | Q(cost_usd__gte=0),
                name="usage_cost_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model}: {self.input_tokens} + {self.output_tokens} tokens"


class ArtifactQuerySet(models.QuerySet["Artifact"]):
    def of_run(self, run: Run, path: str) -> Artifact | None:
        """By its path as listed, or relative to the run's folder, as its code knows it."""
        named = self.filter(run=run, path__in=[path, f"{run.folder}/{path}"])
        return min(named, key=lambda artifact: len(artifact.path), default=None)


class Artifact(models.Model):
    """A file that a run made or a person brought; its bytes are kept once, by digest."""

    session = models.ForeignKey(Session, on_delete=models.CASCADE)
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.CASCADE)
    path = models.CharField(max_length=1000)
    kind = models.CharField(max_length=20)
    mime = models.CharField(max_length=100)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64, db_index=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = ArtifactQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "path"], name="artifact_path_once"),
            models.UniqueConstraint(
                fields=["session", "path"], condition=Q(run__isnull=True), name="upload_path_once"
            ),
        ]

    def __str__(self) -> str:
        return self.path
