"""System checks: what would go wrong later is refused at start, with its remedy."""

from __future__ import annotations

import ipaddress
import stat
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register  # noqa: A004
from django.db import OperationalError, connection

from cmbagent.models import choosing
from cmbagent_site.filesystems import NETWORK_FILE_SYSTEMS, file_system_of

Messages = list[CheckMessage]

# What executed code may read of the system itself, beside the folders that settings name.
SYSTEM_FOLDERS = tuple(Path(name) for name in ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc"))
# Connections to the database beside one per worker: the two clusters' own processes,
# run_workers, and the threads of one web process.
OTHER_CONNECTIONS = 24


def site_check(check: Callable[[], Iterable[CheckMessage]]) -> Callable[[], Iterable[CheckMessage]]:
    @register("cmbagent")
    def registered(app_configs: Sequence[AppConfig] | None, **_: Any) -> Messages:
        return list(check())

    return check


@site_check
def settings_are_usable() -> Messages:
    return [
        Error(problem, hint=remedy, id="cmbagent.E001")
        for problem, remedy in settings.SETTINGS_PROBLEMS
    ]


@site_check
def sqlite_is_on_a_local_disk() -> Messages:
    """SQLite's write-ahead log is shared memory: over a network it loses data without a word."""
    kind = file_system_of(settings.DATA_DIR)
    if not settings.ON_SQLITE or kind not in NETWORK_FILE_SYSTEMS:
        return []
    return [
        Error(
            f"{settings.DATA_DIR} is on a network file system ({kind}); SQLite loses data there.",
            hint="Set CMBAGENT_DATA_DIR to a local disk, or DATABASE_URL to a PostgreSQL server.",
            id="cmbagent.E002",
        )
    ]


@site_check
def strangers_need_tls() -> Messages:
    if is_loopback(settings.HOST) or urlsplit(settings.PUBLIC_URL).scheme == "https":
        return []
    return [
        Error(
            f"HOST={settings.HOST} lets other machines in, but passwords and tokens would "
            f"travel unencrypted (the public address is {settings.PUBLIC_URL}).",
            hint="Put a proxy that speaks TLS in front and set CMBAGENT_PUBLIC_URL to its "
            "https:// address, or unset HOST to serve this machine only.",
            id="cmbagent.E003",
        )
    ]


@site_check
def data_folder_is_ours() -> Messages:
    """By writing there: root may write everywhere, until a file system says no."""
    try:
        settings.DATA_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=settings.DATA_DIR).close()
    except OSError as error:
        reason = error.strerror
    else:
        return []
    return [
        Error(
            f"The data folder {settings.DATA_DIR} cannot be written: {reason}.",
            hint="Mend its rights, or set CMBAGENT_DATA_DIR to a folder of yours.",
            id="cmbagent.E004",
        )
    ]


@site_check
def data_folder_is_private() -> Messages:
    """The database, everybody's files and the sockets lie there; not all of them have narrow modes."""
    folder: Path = settings.DATA_DIR
    if not folder.exists() or stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0:
        return []
    return [
        Error(
            f"Others on this machine can look into the data folder {folder}.",
            hint=f"chmod 700 {folder}, or set CMBAGENT_DATA_DIR to a folder of the server's own.",
            id="cmbagent.E011",
        )
    ]


@site_check
def secret_key_is_secret() -> Messages:
    file: Path = settings.SECRET_KEY_FILE
    if not file.exists() or stat.S_IMODE(file.stat().st_mode) & 0o077 == 0:
        return []
    return [
        Error(
            f"Others can read the secret key {file}.",
            hint=f"chmod 600 {file} (and delete it first if somebody may have read it: the next "
            "start makes a new one, and everybody signs in again).",
            id="cmbagent.E005",
        )
    ]


@site_check
def data_roots_exist() -> Messages:
    return [
        Error(
            f"The data folder {root} of CMBAGENT_DATA_ROOTS does not exist.",
            hint="Mend the path (several are separated by ':').",
            id="cmbagent.E006",
        )
        for root in settings.DATA_ROOTS
        if not root.is_dir()
    ]


@site_check
def executed_code_cannot_read_the_data_folder() -> Messages:
    """The sandbox shows these folders to everybody's code; the data folder holds everybody's."""
    data = settings.DATA_DIR.resolve()
    shown = [folder.resolve() for folder in (*SYSTEM_FOLDERS, settings.SCIENCE_ENV)]
    named = [root.resolve() for root in settings.DATA_ROOTS]
    return [
        Error(
            f"Executed code may read {folder}, and with it files of all users in {data}.",
            hint="Set CMBAGENT_DATA_DIR (or CMBAGENT_DATA_ROOTS) so that neither is in the other.",
            id="cmbagent.E007",
        )
        for folder in (*shown, *named)
        if data.is_relative_to(folder) or (folder in named and folder.is_relative_to(data))
    ]


@site_check
def redis_address_is_one() -> Messages:
    scheme = urlsplit(settings.REDIS_URL).scheme
    if not settings.REDIS_URL or scheme in {"redis", "rediss", "unix"}:
        return []
    return [
        Error(
            "REDIS_URL is not the address of a Redis server.",
            hint="Set it like redis://127.0.0.1:6379/0, or unset it to need no Redis.",
            id="cmbagent.E008",
        )
    ]


@site_check
def models_can_be_used() -> Messages:
    return [
        Error(refusal.problem, hint=f"{refusal.field}: {refusal.remedy}", id="cmbagent.E012")
        for refusal in choosing.problems(settings.MODEL_ENVIRONMENT)
    ]


@site_check
def keys_are_used() -> Messages:
    return [
        Info(
            f"{name} is set, but no model is chosen: no AI is used.",
            hint="Set CMBAGENT_MODEL to the model's name, such as gpt-4o, or unset the other.",
            id="cmbagent.I001",
        )
        for name in choosing.unused_keys(settings.MODEL_ENVIRONMENT)
    ]


@site_check
def keys_travel_encrypted() -> Messages:
    return [
        Warning(
            f"A key travels unencrypted to the address in {name}.",
            hint="Use https://, unless nobody else can listen on the way.",
            id="cmbagent.W001",
        )
        for name in choosing.keys_in_the_clear(settings.MODEL_ENVIRONMENT)
    ]


@register(Tags.database)
def database_answers(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> Messages:
    """Only asked when a command names the database: `serve`, `migrate`, `check --database`."""
    if not databases or connection.vendor != "postgresql":
        return []
    try:
        return _connections_suffice()
    except OperationalError as error:
        return [
            Error(
                f"The database does not answer: {str(error).strip().splitlines()[0]}",
                hint="Start PostgreSQL, or mend DATABASE_URL.",
                id="cmbagent.E009",
            )
        ]


def _connections_suffice() -> Messages:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int"
        )
        offered: int = cursor.fetchone()[0]
    needed = settings.WORKERS + OTHER_CONNECTIONS
    if needed <= offered:
        return []
    return [
        Error(
            f"CMBAGENT_WORKERS={settings.WORKERS} needs about {needed} database connections; "
            f"PostgreSQL offers {offered}.",
            hint=f"Raise max_connections to {needed + 10} or more, or lower CMBAGENT_WORKERS.",
            id="cmbagent.E010",
        )
    ]


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
