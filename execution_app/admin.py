"""Reading runs and their files, and the repairs an operator may need: through services."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet, TextField
from django.db.models.functions import Left
from django.http import HttpRequest

from execution_app.errors import ExecutionError
from execution_app.models import Artifact, JournalEntry, Run, Step, Usage
from execution_app.services import cancel_run, pause_run, resume_run, retry_run
from sessions_app.admin import ReadOnlyAdmin

if TYPE_CHECKING:  # only the type checker knows what it holds
    StepTabularInline = admin.TabularInline[Step, Run]
else:
    StepTabularInline = admin.TabularInline

PAYLOAD_SHOWN = 2_000  # characters


class StepInline(StepTabularInline):
    """The plan, as far as it is known; of a very long one its beginning."""

    model = Step
    fields = ("index", "title", "agent", "status", "attempts", "started_at", "finished_at", "error")
    readonly_fields = fields
    ordering = ("index",)
    extra = 0
    can_delete = False
    max_num = 0
    FIRST = 200

    def get_queryset(self, request: HttpRequest) -> QuerySet[Step]:
        steps: QuerySet[Step] = super().get_queryset(request)
        return steps.filter(index__lte=self.FIRST)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = [
        "status",
        "session",
        "number",
        "attempt",
        "crashes",
        "postponements",
        "model",
        "error_type",
        "queued_at",
        "finished_at",
        "lease_expires_at",
        "lease_owner",
        "sandbox_level",
        "id",
    ]
    list_filter = ["status", "error_type", "sandbox_level", "model"]
    list_select_related = ["session"]
    search_fields = ["=id", "=session__id", "session__name"]
    ordering = ["-queued_at"]
    inlines = [StepInline]
    actions = ["cancel", "pause", "resume", "retry"]

    @admin.action(description="Cancel", permissions=["view"])
    def cancel(self, request: HttpRequest, runs: QuerySet[Run]) -> None:
        _for_each(request, runs, cancel_run, "cancelled, or asked to stop")

    @admin.action(description="Pause", permissions=["view"])
    def pause(self, request: HttpRequest, runs: QuerySet[Run]) -> None:
        _for_each(request, runs, pause_run, "paused, or asked to pause")

    @admin.action(description="Resume", permissions=["view"])
    def resume(self, request: HttpRequest, runs: QuerySet[Run]) -> None:
        _for_each(request, runs, resume_run, "queued again")

    @admin.action(description="Retry", permissions=["view"])
    def retry(self, request: HttpRequest, runs: QuerySet[Run]) -> None:
        _for_each(request, runs, retry_run, "queued again")


def _for_each(
    request: HttpRequest, runs: QuerySet[Run], service: Callable[..., Any], done: str
) -> None:
    by = request.user
    if not isinstance(by, User):
        return
    count = 0
    for run in runs:
        try:
            service(run, by=by)
            count += 1
        except ExecutionError as error:
            messages.error(request, f"{run}: {error}")
    if count:
        messages.success(request, f"{count} runs {done}.")


@admin.register(Step)
class StepAdmin(ReadOnlyAdmin):
    list_display = ["index", "title", "run", "agent", "status", "attempts", "started_at"]
    list_filter = ["status"]
    list_select_related = ["run"]
    search_fields = ["title", "=run__id"]
    ordering = ["-pk"]


@admin.register(JournalEntry)
class JournalEntryAdmin(ReadOnlyAdmin):
    """What a run remembers; to have a run forget, retry it."""

    list_display = ["key", "kind", "run", "step", "size", "created_at"]
    list_filter = ["kind"]
    list_select_related = ["run"]
    search_fields = ["=run__id", "key"]
    search_help_text = "The whole id of a run, or a part of a key"
    ordering = ["-pk"]
    exclude = ["payload", "digest", "key_digest"]
    readonly_fields = ["beginning_of_payload"]
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[JournalEntry]:
        """A page of payloads would be megabytes."""
        shown = Left("payload", PAYLOAD_SHOWN, output_field=TextField())
        entries: QuerySet[JournalEntry] = super().get_queryset(request)
        return entries.defer("payload").annotate(shown=shown)

    @admin.display(description="payload")
    def beginning_of_payload(self, entry: JournalEntry) -> str:
        if entry.payload_sha256:
            return f"in a file of {entry.size:,} bytes"
        rest = entry.size - PAYLOAD_SHOWN
        return f"{vars(entry)['shown']}" + f" … {rest:,} more" * (rest > 0)


@admin.register(Usage)
class UsageAdmin(ReadOnlyAdmin):
    list_display = [
        "model",
        "provider",
        "agent",
        "run",
        "step",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "cost_usd",
        "created_at",
    ]
    list_filter = ["provider", "model"]
    list_select_related = ["run"]
    search_fields = ["=run__id", "key"]
    ordering = ["-pk"]
    show_full_result_count = False


@admin.register(Artifact)
class ArtifactAdmin(ReadOnlyAdmin):
    list_display = ["path", "kind", "size", "run", "session", "sha256", "created_at"]
    list_filter = ["kind"]
    list_select_related = ["run", "session"]
    search_fields = ["path", "=sha256", "=run__id"]
