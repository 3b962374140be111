"""`manage.py cleanup_sessions`: removes what people deleted, and what is spent."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from execution_app.services.retention import (
    Removed,
    count_runs,
    erase_runs,
    is_still_stopping,
    sweep_blobs,
)
from sessions_app.services import forget_old_keys
from sessions_app.services.retention import (
    erase_session,
    forget_old_tries,
    forget_spent_links,
    sessions_deleted_before,
)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """7d, 12h, 30m, 0s."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no time span: write 7d, 12h, 30m or 0s")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


class Command(BaseCommand):
    help = (
        "Removes the rows and files of sessions that were deleted longer ago than a time span, "
        "old idempotency keys, spent sign-in links and bytes that nothing names. "
        "May be interrupted: the next one goes on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--deleted-before", type=duration, default="7d", metavar="SPAN")
        parser.add_argument("--dry-run", action="store_true", help="only say what would go")

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run: bool = options["dry_run"]
        found = sessions_deleted_before(timezone.now() - options["deleted_before"])
        ready = [session for session in found if not is_still_stopping(session)]
        waiting = len(found) - len(ready)
        removed, events = Removed(), 0
        for session in ready:
            removed.add(count_runs(session) if dry_run else erase_runs(session))
            events += session.last_seq if dry_run else erase_session(session)
        removed.bytes += sweep_blobs(dry_run=dry_run)
        if not dry_run:
            forget_old_keys()
            forget_spent_links()
            forget_old_tries()
        self.stdout.write(_sentence(len(ready), events, removed, waiting, dry_run=dry_run))


def _sentence(sessions: int, events: int, removed: Removed, waiting: int, *, dry_run: bool) -> str:
    verb = "Would remove" if dry_run else "Removed"
    rest = f" {waiting} more wait until their runs are stopped." if waiting else ""
    return (
        f"{verb} {sessions:,} deleted sessions with {events:,} events, {removed.runs:,} runs and "
        f"{removed.files:,} files ({removed.bytes / 2**20:,.1f} MB).{rest}"
    )
