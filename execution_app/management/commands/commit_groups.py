"""A child of run_workers: `manage.py commit_groups` stores what the runs of this host print."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from setproctitle import setproctitle

from execution_app.committer import GroupCommitter


class Command(BaseCommand):
    help = "Stores what this host's runs print, many batches in one transaction. run_workers starts it."

    def handle(self, *_: Any, **__: Any) -> None:
        setproctitle("cmbagent committer")
        GroupCommitter().run()
