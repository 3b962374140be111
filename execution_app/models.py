"""Runs and what they made."""

from __future__ import annotations

import uuid
from typing import Self

from django.db import models
from django.db.models import Count, Exists, IntegerField, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from execution_app.statuses import FINAL, LIVE, OCCUPYING, RunStatus
from sessions_app.models import Session


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
        """Runs that had begun come first (a person watches them), then owners with the least
        running, then the oldest."""
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
            begun=Q(attempt__gt=0),
        ).order_by("-begun", "owner_running", "queued_at", "pk")

    def expired(self) -> Self:
        return self.filter(status=RunStatus.RUNNING, lease_expires_at__lt=Now())


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
    engine_version = models.CharField(max_length=40, blank=True)
    sandbox_level = models.SmallIntegerField(null=True, blank=True)

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

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "path"], name="artifact_path_once"),
            models.UniqueConstraint(
                fields=["session", "path"], condition=Q(run__isnull=True), name="upload_path_once"
            ),
        ]

    def __str__(self) -> str:
        return self.path
