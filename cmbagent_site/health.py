"""Is this server alive, and can it work? Ready asks everything a run needs, by using it.

Nobody has to sign in to ask; answers name what failed and how to mend it, never an address, a
path or a secret. The log has the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import redis
import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django_q.models import OrmQ
from ninja import Router
from pydantic import BaseModel

from sessions_app.models import Server, Session
from sessions_app.schemas import Timestamp
from sessions_app.serialization import timestamp_json

logger = structlog.get_logger(__name__)

PATIENCE_SECONDS = 2.0  # for each thing that is asked
DISK_MINIMUM = 500 * 2**20
RETRY_SECONDS = "5"

router = Router(tags=["health"])


class NotReady(Exception):
    """What is missing and how to mend it, in words that may be shown to anybody."""


class CheckResult(BaseModel):
    status: str
    detail: str


class Health(BaseModel):
    status: str
    timestamp: Timestamp
    checks: dict[str, CheckResult]


@router.api_operation(["GET", "HEAD"], "/live", response=Health)
def live(request: HttpRequest) -> HttpResponse:
    """This web process answers."""
    return _answer({})


@router.api_operation(["GET", "HEAD"], "/ready", response={200: Health, 503: Health})
def ready(request: HttpRequest) -> HttpResponse:
    """A run can be started and will be carried out: asks database, broker, channel layer,
    worker, disk and sandbox."""
    return _answer({name: result_of(name, check) for name, check in CHECKS.items()})


def _answer(checks: dict[str, dict[str, str]]) -> HttpResponse:
    failed = [name for name, result in checks.items() if result["status"] != "ok"]
    body = {
        "status": "unavailable" if failed else "ok",
        "timestamp": timestamp_json(timezone.now()),
        "checks": checks,
    }
    if not failed:
        return JsonResponse(body)
    body |= {"code": "not_ready", "detail": f"Not ready: {', '.join(failed)}."}
    return JsonResponse(body, status=503, headers={"Retry-After": RETRY_SECONDS})


def result_of(name: str, check: Callable[[], str]) -> dict[str, str]:
    try:
        return {"status": "ok", "detail": check()}
    except NotReady as problem:
        return {"status": "failed", "detail": str(problem)}
    except Exception as error:  # noqa: BLE001  whatever it is, it is this check that failed
        logger.warning("health_check_failed", check=name, error=f"{type(error).__name__}: {error}")
        return {"status": "failed", "detail": f"{type(error).__name__}; the log says more."}


# -- what a run needs -------------------------------------------------------------------------
def check_database() -> str:
    """Takes the write lock and gives it back; a full or read-only database fails here."""
    with _impatient_database(), transaction.atomic():
        Session.objects.filter(pk=uuid.UUID(int=0)).update(name=F("name"))
    return "takes writes"


@contextlib.contextmanager
def _impatient_database() -> Iterator[None]:
    """A probe must not hang for as long as a request may wait for the database."""
    milliseconds = int(PATIENCE_SECONDS * 1000)
    before, after = f"SET statement_timeout = {milliseconds}", "RESET statement_timeout"
    if connection.vendor == "sqlite":
        usual = int(connection.settings_dict["OPTIONS"]["timeout"] * 1000)
        before, after = f"PRAGMA busy_timeout = {milliseconds}", f"PRAGMA busy_timeout = {usual}"
    with connection.cursor() as cursor:
        cursor.execute(before)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(after)


def check_broker() -> str:
    if not settings.REDIS_URL:
        return f"{OrmQ.objects.count()} waiting in the database"
    with redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
    ) as client:
        client.ping()
    return "Redis answers"


def check_channel_layer() -> str:
    """Sends a message to a group of one, through the layer and back."""
    async_to_sync(_round_trip)()
    return "a message came back"


async def _round_trip() -> None:
    layer = get_channel_layer()
    assert layer is not None  # settings name one
    group, sent = f"health.{secrets.token_hex(8)}", {"type": "health.ping"}
    async with asyncio.timeout(PATIENCE_SECONDS):
        channel = await layer.new_channel()
        await layer.group_add(group, channel)
        try:
            await layer.group_send(group, sent)
            await layer.receive(channel)
        finally:
            await layer.group_discard(group, channel)


def check_worker() -> str:
    workers = _workers()
    if not workers:
        raise NotReady("No worker's heart beats. Start one: manage.py run_workers.")
    return f"{len(workers)} alive"


def check_disk() -> str:
    folder = Path(settings.DATA_DIR)
    free = shutil.disk_usage(folder).free
    if free < DISK_MINIMUM:
        raise NotReady(f"Only {free // 2**20} MB are free where the data folder lies. Make room.")
    return f"{free // 2**30} GB free"


def check_sandbox() -> str:
    levels = [worker.sandbox_level for worker in _workers()]
    usable = [level for level in levels if level is not None]
    if not levels:
        raise NotReady("No worker is there to say which sandbox it has.")
    if len(usable) < len(levels):
        raise NotReady("A worker has no sandbox for code. Install bubblewrap on its host.")
    return f"level {max(usable)}"


def _workers() -> list[Server]:
    alive = Server.objects.alive().filter(kind=Server.Kind.WORKER, draining_at__isnull=True)
    return list(alive)


CHECKS: dict[str, Callable[[], str]] = {
    "database": check_database,
    "broker": check_broker,
    "channel_layer": check_channel_layer,
    "worker": check_worker,
    "disk": check_disk,
    "sandbox": check_sandbox,
}
