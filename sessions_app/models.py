"""What a user opens and returns to, all that happened in it, and who is looking."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, NoReturn, Self

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from sessions_app.statuses import SessionStatus

HEARTBEAT_SECONDS = 5
HEARTBEAT_LOST_AFTER = timedelta(seconds=20)


def new_epoch() -> str:
    return uuid.uuid4().hex[:12]


class SessionQuerySet(models.QuerySet["Session"]):
    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """The sessions this user may see. Everything else does not exist for them (404).

        Sockets ask the same of many users at once: sockets/rights.py, find_states.
        """
        if not user.is_authenticated:
            return self.none()
        undeleted = self.filter(deleted_at__isnull=True)
        return undeleted if getattr(user, "is_staff", False) else undeleted.filter(owner=user)


class Session(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    name = models.CharField(max_length=200)
    mode = models.CharField(max_length=40)
    config = models.JSONField(default=dict, blank=True)
    status = models.CharField(
        max_length=12, choices=SessionStatus, default=SessionStatus.ACTIVE, db_index=True
    )
    last_seq = models.BigIntegerField(default=0)
    epoch = models.CharField(max_length=12, default=new_epoch, editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    objects = SessionQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["owner", "-updated_at", "id"]),  # a user's list, newest first
            models.Index(fields=["-updated_at", "id"]),  # the list of staff
            models.Index(
                fields=["deleted_at"],
                condition=Q(deleted_at__isnull=False),
                name="session_deleted_idx",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=SessionStatus.values), name="session_status_known"
            ),
            models.CheckConstraint(condition=Q(last_seq__gte=0), name="last_seq_not_negative"),
        ]

    def __str__(self) -> str:
        return self.name


class SessionState(models.Model):
    """What one run leaves to the next in its session; never what a run resumes from."""

    session = models.OneToOneField(Session, on_delete=models.CASCADE, primary_key=True)
    context_variables = models.JSONField(default=dict)
    plan_data = models.JSONField(null=True)
    current_phase = models.CharField(max_length=120, blank=True)
    current_step = models.IntegerField(null=True)
    version = models.BigIntegerField(default=1)  # in the WHERE of every save

    def __str__(self) -> str:
        return f"state of {self.session_id}"


class AppendOnlyError(TypeError):
    """An event is written once, by append_events, and never changed."""


class EventQuerySet(models.QuerySet["Event"]):
    def after(self, cursor: int) -> Self:
        return self.filter(seq__gt=cursor).order_by("seq")

    def update(self, **_: Any) -> NoReturn:
        raise AppendOnlyError(AppendOnlyError.__doc__)

    def delete(self) -> NoReturn:
        raise AppendOnlyError(AppendOnlyError.__doc__)


class Event(models.Model):
    """One line of a session's log. run_id and step are plain columns: the log outlives them."""

    session = models.ForeignKey(Session, on_delete=models.PROTECT)
    seq = models.BigIntegerField()
    run_id = models.UUIDField(null=True)
    step = models.CharField(max_length=200, null=True)  # noqa: DJ001  no step is not an empty one
    event_type = models.CharField(max_length=40)
    data = models.JSONField()
    created_at = models.DateTimeField()

    objects = EventQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "seq"], name="event_seq_once"),
            models.CheckConstraint(condition=Q(seq__gte=1), name="event_seq_from_one"),
        ]
        indexes = [models.Index(fields=["run_id", "event_type", "seq"])]  # the console of one run

    def __str__(self) -> str:
        return f"{self.seq} {self.event_type}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError(AppendOnlyError.__doc__)
        super().save(*args, **kwargs)

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        raise AppendOnlyError(AppendOnlyError.__doc__)


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self) -> Self:
        return self.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=Now()), revoked_at__isnull=True
        )


class ApiToken(models.Model):
    """A key of a user's programs; only its digest is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    name = models.CharField(max_length=100, blank=True)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name or f"token {self.pk}"


class SignInLink(models.Model):
    """A way in that works once and for ten minutes; only its digest is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sign-in link of {self.user}"


class PasswordTry(models.Model):
    """A password that was typed and let nobody in, or is being looked at. Of the name only the
    digest is kept: people type passwords into the wrong field."""

    name_digest = models.CharField(max_length=64)
    address = models.CharField(max_length=45)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        verbose_name_plural = "password tries"
        indexes = [models.Index(fields=["address", "created_at"], name="password_try_address_idx")]

    def __str__(self) -> str:
        return f"try from {self.address}"


class IdempotencyKey(models.Model):
    """The first answer to a POST, given again to its repetitions. Written with the effect."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    key = models.CharField(max_length=200)
    method = models.CharField(max_length=8)
    path = models.CharField(max_length=500)
    body_digest = models.CharField(max_length=64)
    status_code = models.SmallIntegerField(null=True)  # null only inside the first transaction
    answer = models.JSONField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return self.key


class ServerQuerySet(models.QuerySet["Server"]):
    def alive(self) -> Self:
        return self.filter(last_heartbeat__gt=Now() - HEARTBEAT_LOST_AFTER)

    def dead(self) -> Self:
        return self.filter(last_heartbeat__lte=Now() - HEARTBEAT_LOST_AFTER)


class Server(models.Model):
    """One web or worker process. Its heart beats into this row."""

    class Kind(models.TextChoices):
        WEB = "web"
        WORKER = "worker"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=8, choices=Kind)
    host = models.CharField(max_length=300)
    pid = models.IntegerField()
    version = models.CharField(max_length=40)
    sandbox_level = models.SmallIntegerField(null=True, blank=True)  # what a worker host offers
    sandbox_report = models.TextField(blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    last_heartbeat = models.DateTimeField(db_default=Now())
    draining_at = models.DateTimeField(null=True, blank=True)

    objects = ServerQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.kind} {self.host} {self.pid}"


class ConnectionQuerySet(models.QuerySet["Connection"]):
    def alive(self) -> Self:
        return self.filter(server__in=Server.objects.alive())


class Connection(models.Model):
    """One open WebSocket; alive while its server's heart beats."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    server = models.ForeignKey(Server, on_delete=models.CASCADE)
    session = models.ForeignKey(Session, null=True, blank=True, on_delete=models.CASCADE)
    connected_at = models.DateTimeField(default=timezone.now)

    objects = ConnectionQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.user} since {self.connected_at:%H:%M:%S}"
