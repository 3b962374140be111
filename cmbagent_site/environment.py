"""Typed reading of environment variables that collects what is wrong instead of raising."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dj_database_url

T = TypeVar("T")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


class EnvironmentReader:
    """Reads settings; `problems` holds (what is wrong, how to mend it) for each unusable one."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.problems: list[tuple[str, str]] = []

    def refuse(self, problem: str, remedy: str) -> None:
        self.problems.append((problem, remedy))

    def text(self, name: str, default: str) -> str:
        return self._values.get(name, "").strip() or default

    def boolean(self, name: str, *, default: bool) -> bool:
        word = self.text(name, str(default)).lower()
        if word not in _TRUE | _FALSE:
            self.refuse(f"{name}={word!r} is neither yes nor no.", f"Set {name} to 1 or 0.")
        return word in _TRUE

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        word = self.text(name, default).upper()
        if word in allowed:
            return word
        self.refuse(f"{name}={word!r} is unknown.", f"Use one of {', '.join(allowed)}.")
        return default

    def number(
        self, name: str, default: float, *, minimum: float, maximum: float = float("inf")
    ) -> float:
        raw = self.text(name, str(default))
        try:
            value = float(raw)
        except ValueError:
            value = float("nan")
        if minimum <= value <= maximum:
            return value
        self.refuse(f"{name}={raw!r} is not a number it can be.", _range(name, minimum, maximum))
        return default

    def integer(self, name: str, default: int, *, minimum: int, maximum: int = 2**31 - 1) -> int:
        raw = self.text(name, str(default))
        if raw.isascii() and raw.isdigit() and minimum <= int(raw) <= maximum:
            return int(raw)
        self.refuse(
            f"{name}={raw!r} is not a whole number it can be.", _range(name, minimum, maximum)
        )
        return default

    def optional_integer(self, name: str, *, minimum: int) -> int | None:
        return self.integer(name, minimum, minimum=minimum) if self.text(name, "") else None

    def url(self, name: str, default: str) -> str:
        value = self.text(name, default).rstrip("/")
        parts = self.parsed(name, urlsplit, value)
        if parts.scheme in {"http", "https"} and parts.netloc and not parts.path:
            return value
        self.refuse(f"{name}={value!r} is no web address.", f"Set {name} like https://host.example")
        return default

    def path(self, name: str, default: Path) -> Path:
        return Path(self.text(name, str(default))).expanduser().absolute()

    def paths(self, name: str) -> list[Path]:
        return [Path(item).absolute() for item in self.text(name, "").split(":") if item]

    def log_file(self, name: str) -> str:
        """A file that can be appended to; logging itself would end in a traceback."""
        if file := self.text(name, ""):
            try:
                Path(file).open("a").close()
            except OSError as error:
                self.refuse(
                    f"{name}={file!r} cannot be written: {error.strerror}.",
                    f"Set {name} to a file in a folder of yours, or unset it.",
                )
                return ""
        return file

    def database(self, name: str, default: str) -> dict[str, Any]:
        """Django's settings for it. Any other engine would end in the import of its driver."""
        found = dict(self.parsed(name, dj_database_url.parse, self.text(name, default)))
        engine = str(found.get("ENGINE", ""))
        if not engine or engine.rpartition(".")[2] in {"sqlite3", "postgresql"}:
            return found
        self.refuse(
            f"{name} asks for {engine}, which is not supported.",
            "Use postgres://user:password@host/name, or unset it for SQLite.",
        )
        return {}

    def parsed(self, name: str, parse: Callable[[str], T], value: str) -> T:
        """What `parse` makes of the value; a ValueError becomes a problem and an empty result."""
        try:
            return parse(value)
        except ValueError as error:
            self.refuse(f"{name} cannot be read: {type(error).__name__}.", f"Mend or unset {name}.")
            return parse("") if parse is urlsplit else {}  # type: ignore[return-value]  # empty


def _range(name: str, minimum: float, maximum: float) -> str:
    upper = f" to {maximum:g}" if maximum < 2**31 - 1 else " or more"
    return f"Set {name} to {minimum:g}{upper}, or unset it."


def boot_id() -> str:
    """Eight characters that change when the machine starts anew: old process numbers are void."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return "unknown"


def keep_private(folder: Path) -> None:
    """Close a folder of ours to others. One that is not ours, or is shared on purpose (sticky, as
    /tmp is), is left alone: a check refuses it."""
    with contextlib.suppress(OSError):
        found = folder.stat()
        if found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
            folder.chmod(0o700)


def secret_key(file: Path, env: EnvironmentReader) -> str:
    """The key in `file`, made there (0600) at the first start; two starts at once agree on one."""
    if given := env.text("DJANGO_SECRET_KEY", ""):
        return given
    try:
        if not file.exists():
            _write_once(file, secrets.token_urlsafe(50))
        if key := file.read_text().strip():
            return key
        env.refuse(f"{file} is empty.", "Delete it: the next start makes a new one.")
    except OSError as error:
        env.refuse(f"The secret key {file} cannot be used: {error.strerror}.", "Mend its rights.")
    return secrets.token_urlsafe(50)


def _write_once(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(text)
        os.link(temporary, file)  # fails if another process was first: its key holds
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
