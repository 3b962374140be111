"""Reading sessions and their logs. Nothing is edited here: repairs go through services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Max, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from sessions_app.models import (
    ApiToken,
    Connection,
    Event,
    IdempotencyKey,
    Server,
    Session,
    SessionState,
    SignInLink,
)
from sessions_app.services import revoke_token

if TYPE_CHECKING:  # only the type checker knows what these hold
    AnyModelAdmin = admin.ModelAdmin[Any]
    AnyPaginator = Paginator[Any]
    EventTabularInline = admin.TabularInline[Event, Session]
else:
    AnyModelAdmin = admin.ModelAdmin
    AnyPaginator = Paginator
    EventTabularInline = admin.TabularInline


class ReadOnlyAdmin(AnyModelAdmin):
    """Everything can be read, nothing typed over."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class EstimatingPaginator(AnyPaginator):
    """The log has millions of lines: counting them all would take longer than reading them."""

    EXACT_UP_TO = 10_000

    @cached_property
    def count(self) -> int:
        if not isinstance(self.object_list, QuerySet) or self.object_list.query.where:
            return self._capped()
        return max(self._capped(), self._estimate())

    def _capped(self) -> int:
        return len(list(self.object_list[: self.EXACT_UP_TO]))

    def _estimate(self) -> int:
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT reltuples::bigint FROM pg_class WHERE relname = %s",
                    [Event._meta.db_table],
                )
                row = cursor.fetchone()
            return max(int(row[0]) if row else 0, 0)
        return Event.objects.aggregate(last=Max("pk"))["last"] or 0


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ["seq", "session", "event_type", "run_id", "step", "created_at"]
    list_filter = ["event_type"]
    list_select_related = ["session"]
    search_fields = ["=session__id", "=run_id"]
    search_help_text = "The whole id of a session or of a run"
    ordering = ["-pk"]
    paginator = EstimatingPaginator
    show_full_result_count = False


class EventInline(EventTabularInline):
    """The newest lines only; the rest is one click away."""

    model = Event
    fields = ("seq", "event_type", "run_id", "data", "created_at")
    readonly_fields = ("seq", "event_type", "run_id", "data", "created_at")
    extra = 0
    can_delete = False
    max_num = 0
    NEWEST = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        match = request.resolver_match
        session_id = match.kwargs.get("object_id", "") if match else ""
        newest = Event.objects.filter(session_id=session_id).order_by("-seq")
        keys = list(newest.values_list("pk", flat=True)[: self.NEWEST])
        return super().get_queryset(request).filter(pk__in=keys).order_by("-seq")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Session)
class SessionAdmin(ReadOnlyAdmin):
    list_display = ["name", "owner", "mode", "status", "last_seq", "updated_at", "deleted_at"]
    list_filter = ["status", "mode", ("deleted_at", admin.EmptyFieldListFilter)]
    list_select_related = ["owner"]
    search_fields = ["name", "=id", "owner__username"]
    ordering = ["-updated_at"]
    inlines = [EventInline]


@admin.register(SessionState)
class SessionStateAdmin(ReadOnlyAdmin):
    list_display = ["session", "current_phase", "current_step", "version"]
    list_select_related = ["session"]


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_display = ["name", "user", "created_at", "last_used_at", "expires_at", "revoked_at"]
    list_select_related = ["user"]
    exclude = ["digest"]
    actions = ["revoke"]

    @admin.action(description="Revoke the chosen tokens", permissions=["view"])
    def revoke(self, request: HttpRequest, tokens: QuerySet[ApiToken]) -> None:
        revoked = sum(revoke_token(token) for token in tokens)
        messages.success(request, f"{revoked} of {len(tokens)} tokens were revoked now.")


@admin.register(SignInLink)
class SignInLinkAdmin(ReadOnlyAdmin):
    list_display = ["user", "created_at", "expires_at", "used_at"]
    list_select_related = ["user"]
    exclude = ["digest"]


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    list_display = ["key", "user", "method", "path", "status_code", "created_at"]
    list_select_related = ["user"]


@admin.register(Server)
class ServerAdmin(ReadOnlyAdmin):
    list_display = [
        "kind",
        "host",
        "pid",
        "version",
        "sandbox_level",
        "started_at",
        "last_heartbeat",
        "draining_at",
    ]
    list_filter = ["kind"]


@admin.register(Connection)
class ConnectionAdmin(ReadOnlyAdmin):
    list_display = ["id", "user", "session", "server", "connected_at"]
    list_select_related = ["user", "session", "server"]
