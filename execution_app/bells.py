"""What we ask of django-q: bells, which say only "there may be work" and may be lost, doubled or
late without harm, and the hourly chores."""

from __future__ import annotations

import structlog
from django.conf import settings
from django.db import transaction
from django_q.models import Schedule
from django_q.tasks import async_task
from redis.exceptions import RedisError

logger = structlog.get_logger(__name__)


def ring_bell() -> None:
    """Inside a transaction. The ORM broker's row is part of it; Redis is rung after commit."""
    if settings.REDIS_URL:
        transaction.on_commit(_ring_redis)
    else:
        _ring()


def schedule_chores() -> None:
    """Slow work has a cluster of its own, so that it never stands before a run."""
    Schedule.objects.update_or_create(
        name="clean up",
        defaults={
            "func": "execution_app.tasks.clean_up",
            "schedule_type": Schedule.HOURLY,
            "cluster": "chores",
        },
    )


def _ring_redis() -> None:
    try:
        _ring()
    except (RedisError, OSError) as error:
        # the worker command rings again within a second of Redis being back
        logger.warning("bell_lost", error=f"{type(error).__name__}: {error}")


def _ring() -> None:
    # timeout -1: the task supervises runs for hours and no alarm may end it
    async_task("execution_app.tasks.work", timeout=-1, ack_failure=True, cluster="runs")
