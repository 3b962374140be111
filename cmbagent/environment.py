"""Makes a Python environment from locked requirements and tells what state it is in.

    python cmbagent/environment.py install PATH LOCKFILE [LOCKFILE ...]

Needs nothing but the standard library, because it also makes the environment that everything else
runs in. Beside PATH lie PATH.state.json (what happened last) and PATH.lock (held while somebody
works on it: an installer that was killed leaves "installing" behind and a free lock).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

PR_SET_PDEATHSIG = 1
KEPT_LINES = 40  # of pip's output, to explain a failure
SHOWN_LINES = 3
NOTHING_OFFERED = (
    f"No file built for Python {sys.version_info[0]}.{sys.version_info[1]} was offered: either no "
    "package index could be reached, or none has one for this machine."
)
CAUSES = (
    (r"No space left on device", "The disk is full."),
    (r"do not match the hashes", "The downloaded files are not the ones in the lock."),
    (
        r"NewConnectionError|name resolution|unreachable|ConnectTimeout|ReadTimeout|ProxyError",
        "No package index could be reached (pip's own configuration decides which it asks).",
    ),
    (r"No matching distribution|Could not find a version", NOTHING_OFFERED),
)


class InstallFailed(Exception):
    """The environment could not be made; the message says why."""


@dataclasses.dataclass(frozen=True)
class EnvironmentState:
    state: Literal["ready", "installing", "failed", "absent"]
    detail: str = ""
    remedy: str = "make science"


def state(path: Path, lockfile: Path) -> EnvironmentState:
    """What the environment at `path` is good for now, if it is to fit `lockfile`."""
    record = _read_record(path)
    if _is_locked(path):
        underway = record["state"] == "installing"
        return EnvironmentState("installing", record["detail"] if underway else "starting")
    if _fits(path, record, lockfile):
        return EnvironmentState("ready")
    match record["state"]:
        case "ready":
            return EnvironmentState("absent", "It was made for other versions.")
        case "installing":
            return EnvironmentState("failed", f"Interrupted while {record['detail']}.")
        case "failed":
            return EnvironmentState("failed", record["detail"])
    return EnvironmentState("absent", "It was never made.")


def install(path: Path, lockfiles: list[Path], tell: Callable[[str], None]) -> None:
    """Makes `path` hold what the locks say, unless it already does. Raises InstallFailed.

    If it does not fit the first lock it is made anew; what further locks ask for is added to it.
    """
    with _only_one_installer(path, tell):
        record = _read_record(path)
        missing = [lock for lock in lockfiles if not _fits(path, record, lock)]
        if lockfiles[0] in missing:
            _make(path, lockfiles, tell)
        elif missing:
            _add(path, missing, record["locks"], tell)


def _make(path: Path, lockfiles: list[Path], tell: Callable[[str], None]) -> None:
    def progress(detail: str) -> None:
        tell(detail)
        _write_record(path, "installing", detail, {})

    try:
        progress(f"making {path.name}")
        _remove(path)
        _run([sys.executable, "-m", "venv", str(path)], progress)
        for lockfile in lockfiles:
            _run(_pip(path, lockfile), progress)
        _write_record(path, "ready", "", _digests(lockfiles))
    except (InstallFailed, OSError) as error:
        _remove(path)  # first: on a full disk this makes the room to say that it is full
        _write_record(path, "failed", str(error), {})
        raise InstallFailed(str(error)) from error


def _add(
    path: Path, lockfiles: list[Path], locks: dict[str, str], tell: Callable[[str], None]
) -> None:
    """Leaves the record alone until the end: a server may be running from this environment."""
    for lockfile in lockfiles:
        _run(_pip(path, lockfile), tell)
    _write_record(path, "ready", "", {**locks, **_digests(lockfiles)})


def _pip(path: Path, lockfile: Path) -> list[str]:
    """Only built files: a source package would bring unlocked build requirements of its own."""
    options = "--disable-pip-version-check --no-input --progress-bar off --only-binary :all:"
    return [
        *(str(path / "bin" / "python"), "-I", "-m", "pip", "install", *options.split()),
        *("--require-hashes", "--requirement", str(lockfile)),
    ]


def _run(argv: list[str], progress: Callable[[str], None]) -> None:
    tail: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=_die_with_parent,  # noqa: PLW1509  # one thread: nothing to deadlock with
    ) as process:
        assert process.stdout
        for line in process.stdout:
            tail.append(line.rstrip())
            if step := _step(line):
                progress(step)
    if process.returncode != 0:
        raise InstallFailed(_explain(list(tail)))


def _step(line: str) -> str:
    """pip's output as a few words about what it does now; empty for a line of no interest.

    >>> _step("  Downloading scipy-1.17.1-cp311-cp311-manylinux.whl (35.0 MB)")
    'downloading scipy 1.17.1 (35.0 MB)'
    """
    if found := re.match(r"Collecting ([\w.-]+)==", line):
        return f"looking for {found[1]}"
    if found := re.match(r"\s*Downloading (?:\S*/)?([\w.]+)-([\w.+]+)-\S+( \(.*\))?", line):
        return f"downloading {found[1]} {found[2]}{found[3] or ''}"
    if found := re.match(r"Installing collected packages: (.*)", line):
        return f"installing {len(found[1].split(','))} packages"
    return ""


def _explain(tail: list[str]) -> str:
    text = "\n".join(tail)
    cause = next((sentence for pattern, sentence in CAUSES if re.search(pattern, text)), "")
    return "\n".join([*filter(None, [cause]), *[line for line in tail if line][-SHOWN_LINES:]])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# -- what is remembered beside the environment --------------------------------------------------
def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _read_record(path: Path) -> dict[str, Any]:
    empty = {"state": "absent", "detail": "", "locks": {}, "path": ""}
    try:
        return {**empty, **json.loads(_beside(path, ".state.json").read_text())}
    except (OSError, ValueError, TypeError):
        return empty


def _write_record(path: Path, word: str, detail: str, locks: dict[str, str]) -> None:
    record = {"state": word, "detail": detail, "locks": locks, "path": str(path), "at": time.time()}
    new = _beside(path, ".state.json.new")
    new.write_text(json.dumps(record))
    new.replace(_beside(path, ".state.json"))


def _fits(path: Path, record: dict[str, Any], lockfile: Path) -> bool:
    """False also when the checkout was moved (scripts name their folder) or its Python is gone."""
    return (
        record["state"] == "ready"
        and record["locks"].get(lockfile.name) == _digest(lockfile)
        and record["path"] == str(path)
        and (path / "bin" / "python").exists()
    )


def _digest(lockfile: Path) -> str:
    version = f"{sys.implementation.cache_tag}\n".encode()
    return hashlib.sha256(version + lockfile.read_bytes()).hexdigest()


def _digests(lockfiles: list[Path]) -> dict[str, str]:
    return {lockfile.name: _digest(lockfile) for lockfile in lockfiles}


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


@contextlib.contextmanager
def _only_one_installer(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    with _beside(path, ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"waiting for another installation of {path.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_locked(path: Path) -> bool:
    try:
        with _beside(path, ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a Python environment from locks.")
    parser.add_argument("command", choices=["install"])
    parser.add_argument("path", type=Path)
    parser.add_argument("lockfiles", type=Path, nargs="+", metavar="LOCKFILE")
    options = parser.parse_args()
    os.umask(0o022)  # executed code reads the environment under another uid
    path = options.path.absolute()
    try:
        install(path, options.lockfiles, lambda detail: _say(f"{path.name}: {detail}"))
    except InstallFailed as error:
        _say(f"{path.name} could not be made.\n{error}\nMend that, then repeat this command.")
        return 1
    except KeyboardInterrupt:
        _say(f"{path.name}: interrupted; the next time it is made anew.")
        return 130
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
