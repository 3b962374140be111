"""django-q entry points: a task is a bell, not a run."""

from __future__ import annotations

from django.core.management import call_command

from execution_app.worker import supervise_while_there_is_work


def work() -> None:
    """Claim and supervise runs until nothing is claimable. May be called any number of times."""
    supervise_while_there_is_work()


def clean_up() -> None:
    """The hourly chore: what people deleted a week ago, and what is spent."""
    call_command("cleanup_sessions")
