"""django-q's own command, with a cluster that survives kills. `-n chores` starts the second."""

from __future__ import annotations

from typing import Any

from django_q.conf import Conf
from django_q.management.commands.qcluster import Command as DjangoQCommand
from setproctitle import setproctitle

from execution_app.cluster import make_safe_to_kill


class Command(DjangoQCommand):  # type: ignore[misc]  # django-q2 is untyped
    def handle(self, *args: Any, **options: Any) -> None:
        make_safe_to_kill()
        super().handle(*args, **options)
        setproctitle(f"qcluster {Conf.CLUSTER_NAME} main")
