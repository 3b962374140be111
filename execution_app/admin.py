"""Reading runs and their files, and the repairs an operator may need: through services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest

from execution_app.errors import ExecutionError
from execution_app.models import Artifact, Run
from execution_app.services import cancel_run, pause_run, resume_run, retry_run
from sessions_app.admin import ReadOnlyAdmin


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = [
        "status",
        "session",
        "number",
        "attempt",
        "crashes",
        "error_type",
        "queued_at",
        "finished_at",
        "lease_expires_at",
        "lease_owner",
        "sandbox_level",
        "id",
    ]
    list_filter = ["status", "error_type", "sandbox_level"]
    list_select_related = ["session"]
    search_fields = ["=id", "=session__id", "session__name"]
    ordering = ["-queued_at"]
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


@admin.register(Artifact)
class ArtifactAdmin(ReadOnlyAdmin):
    list_display = ["path", "kind", "size", "run", "session", "sha256", "created_at"]
    list_filter = ["kind"]
    list_select_related = ["run", "session"]
    search_fields = ["path", "=sha256", "=run__id"]
