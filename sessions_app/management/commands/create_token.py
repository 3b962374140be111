"""`manage.py create_token USERNAME`: prints a new API token and nothing else."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessions_app.services import create_token


class Command(BaseCommand):
    help = "Prints a new API token of a user. It is shown only now: keep it as you keep a password."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", default="", help="what it is for, as the admin shows it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = User.objects.get(username=options["username"], is_active=True)
        except User.DoesNotExist:
            raise CommandError(f"There is no active user {options['username']!r}.") from None
        self.stdout.write(create_token(user=user, name=options["name"][:100]))
