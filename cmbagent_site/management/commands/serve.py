"""Runs the whole house in the foreground: what `make run` starts."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from cmbagent_site.processes import Children, Program
from sessions_app.services import create_sign_in_link

TICK_S = 0.1
# Everything must be gone 20 s after SIGTERM: this long for the children to end by themselves,
# the rest for making sure.
GRACE_S = 17.0
APPLICATION = "cmbagent_site.asgi:application"
SIGN_IN_PATH = "/sign-in/link/"  # not by reverse(): the parent imports no page


def programs() -> tuple[Program, ...]:
    """The children of the house; whoever tests their parent puts others in their place."""
    python = sys.executable
    interface = settings.HOST.strip("[]").replace(":", r"\:")
    # daphne's own backlog is 50: a page that reconnects all its readers at once would overflow it
    endpoint = f"tcp:port={settings.PORT}:interface={interface}:backlog=8192"
    daphne = (python, "-m", "daphne", "-v", "0", "-e", endpoint, APPLICATION)
    science = (str(settings.SCIENCE_ENV), str(settings.SCIENCE_LOCK))
    return (
        Program("web", daphne),
        Program("worker", (python, "manage.py", "run_workers")),
        Program(
            "science environment",
            (python, "-m", "cmbagent.environment", "install", *science),
            kept=False,
        ),
    )


class Command(BaseCommand):
    help = "Start web and worker, keep them running, and print a link to sign in with."
    # The rest of Django's checks needs every page and form imported; `make check` runs them.
    requires_system_checks = ("cmbagent",)

    def handle(self, **_: Any) -> None:
        stop = StopRequest()
        self.check(tags=["database"], databases=["default"])
        with only_server_of(settings.DATA_DIR):
            refuse_a_busy_port(settings.HOST, settings.PORT)
            prepare_folders()
            prepare_database()
            self._serve(Children(programs(), settings.BASE_DIR), stop)

    def _serve(self, children: Children, stop: StopRequest) -> None:
        announced = False
        children.adopt_orphans()
        try:
            while not stop.requested:
                children.watch()
                if not announced and is_answering():
                    announced = True
                    self._announce()
                time.sleep(TICK_S)
        finally:
            children.stop(GRACE_S)

    def _announce(self) -> None:
        token = create_sign_in_link(first_user())
        connection.close()
        self.stdout.write(f"Sign in: {settings.PUBLIC_URL}{SIGN_IN_PATH}?token={token}")
        self.stdout.flush()


class StopRequest:
    """Set by SIGTERM, Ctrl-C or a closed terminal; read by the loop, which does the rest."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup: whoever wants us to stay
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True


@contextlib.contextmanager
def only_server_of(folder: Path) -> Iterator[None]:
    """Two servers on one data folder would take each other's runs for lost."""
    with (folder / "serve.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"Another server is running on {folder}. Stop it first, "
                "or give this one a folder of its own: CMBAGENT_DATA_DIR=…"
            ) from None
        yield


def refuse_a_busy_port(host: str, port: int) -> None:
    """Before anything is started: the web process alone could only die of it, again and again."""
    try:
        *kind, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(*kind[:2]) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
    except OSError as error:
        raise CommandError(
            f"Cannot listen on port {port} of {host}: {error.strerror}. "
            f"Choose another, such as: make run PORT={port % 60000 + 1}"
        ) from error


def prepare_folders() -> None:
    """The data folder holds everybody's work: nobody else on this machine has a look in."""
    settings.DATA_DIR.chmod(0o700)
    for folder in (settings.RUNTIME_DIR, settings.SESSIONS_DIR, settings.BLOBS_DIR):
        folder.mkdir(mode=0o700, exist_ok=True)


def prepare_database() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", interactive=False, verbosity=0)
    first_user()
    connection.close()  # the parent serves for months and asks nothing


def first_user() -> User:
    """The user the printed link signs in as; has no password until somebody sets one."""
    users = get_user_model().objects
    user, created = users.get_or_create(
        username="admin", defaults={"is_staff": True, "is_superuser": True}
    )
    if created:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def is_answering() -> bool:
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # an address to be asked at
    host = settings.HOST.strip("[]")
    web = http.client.HTTPConnection(everywhere.get(host, host), settings.PORT, timeout=1)
    with contextlib.closing(web):
        try:
            web.request("GET", "/api/health/live")
            return web.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
