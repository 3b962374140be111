"""`manage.py sign_in_link [USERNAME]`: prints an address that signs a person in, once."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from sessions_app.services import create_sign_in_link


class Command(BaseCommand):
    help = "Prints an address that signs a user in. It works once, for ten minutes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", nargs="?", default="admin")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = User.objects.get(username=options["username"], is_active=True)
        except User.DoesNotExist:
            raise CommandError(f"There is no active user {options['username']!r}.") from None
        path = reverse("sessions:sign_in_link")
        self.stdout.write(f"{settings.PUBLIC_URL}{path}?token={create_sign_in_link(user)}")
