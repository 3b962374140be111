"""The one service of a worker host: `manage.py run_workers`. SIGTERM drains it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from execution_app.worker_host import WorkerHost


class Command(BaseCommand):
    help = "Runs sessions' tasks on this host: starts, watches and repairs the worker processes."

    def handle(self, *_: Any, **__: Any) -> None:
        WorkerHost().run()
