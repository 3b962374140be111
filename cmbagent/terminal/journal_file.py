"""The journal of one task in a file of JSON lines.

A line counts when its newline is on the disk. A record is told apart by the key "t": first the
"task", then "start" and "end" for each attempt (no end: it was killed), "entry" for each finished
call (as on the wire), "question" when nobody could be asked, "forget" for an entry from which the
next attempt begins anew.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

from cmbagent import wire
from cmbagent.errors import EngineError

FORMAT = 1
STARTED_AGAIN = "started_again"  # the attempt before did not get to its end


class JournalUnusable(Exception):
    """It cannot be gone on with; the text says why, and is fit for people."""


class JournalUnwritable(EngineError):
    """The file takes no more: what is not in it has not happened."""

    error_type = "journal_unwritable"
    retryable = True


class JournalFile:
    """Open for one process at a time. Raises JournalUnusable where that cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.task: dict[str, Any] | None = None  # the first record; None: nothing has begun
        self.entries: list[wire.Entry] = []
        self.spent: list[wire.Usage] = []  # by calls that are forgotten
        self.question: dict[str, Any] | None = None  # asked, and not yet answered
        self.attempts = 0
        self.interruption = ""  # why the next attempt is a recovery; "": it is none
        self.last_words = ""  # of any agent
        self._file = _opened(path)
        try:
            _lock(self._file, path)
            self._size = self._read()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    # -- writing ------------------------------------------------------------------------------
    def append(self, record: Mapping[str, Any]) -> None:
        """Returns when it is on the disk. Raises JournalUnwritable."""
        line = wire.encode(record)
        try:
            _write_all(self._file, line)
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)  # half a line would spoil the next one
            raise JournalUnwritable(
                f"The journal {self.path} cannot be written: {error.strerror}.",
                "Make room on the disk, then start the same command again.",
            ) from error
        self._size += len(line)
        self._take(dict(record))

    async def keep(self, entry: wire.Entry) -> None:
        """What cmbagent.journal.Journal asks for."""
        self.append(entry)

    # -- reading ------------------------------------------------------------------------------
    def _read(self) -> int:
        """The size of what counts; the rest is cut off."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]  # a kill may have torn the last line
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                self._take(wire.decode(line))
            except (wire.NotAMessage, KeyError) as error:
                raise JournalUnusable(f"{self.path} is no journal: line {number}.") from error
        if whole and self.task is None:
            raise JournalUnusable(f"{self.path} is no journal of a task.")
        if len(whole) < len(data):
            os.ftruncate(self._file, len(whole))
        return len(whole)

    def _take(self, record: dict[str, Any]) -> None:
        match record["t"]:
            case "task":
                self.task = record
            case "start":
                self.attempts += 1
                self.interruption = STARTED_AGAIN
            case "end":
                self.interruption = record["interruption"]
            case "entry":
                self.last_words = _said(record) or self.last_words
                self.entries.append(cast("wire.Entry", {**record, "events": []}))
                self.question = None if record["kind"] == "answer" else self.question
            case "question":
                self.question = record["question"]
            case "forget":
                self._forget(record["key"])

    def _forget(self, key: str) -> None:
        everything, self.entries = self.entries, _without(self.entries, key)
        kept = {entry["key"] for entry in self.entries}
        forgotten = [entry for entry in everything if entry["key"] not in kept]
        self.spent += [usage for entry in forgotten if (usage := entry["usage"])]


def _said(entry: dict[str, Any]) -> str:
    messages = [e["data"] for e in entry["events"] if e["event_type"] == "agent_message"]
    return str(messages[-1]["content"]) if messages else ""


def _without(entries: list[wire.Entry], key: str) -> list[wire.Entry]:
    """Before the entry of this key; what was finished inside its call goes too."""
    keys = [entry["key"] for entry in entries]
    kept = entries[: keys.index(key)] if key in keys else entries
    return [entry for entry in kept if not entry["key"].startswith(f"{key}/")]


def _opened(path: Path) -> int:
    is_new = not path.exists()
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalUnusable(f"{path} cannot be opened: {error.strerror}.") from error
    if is_new:
        _sync_folder(path.parent)  # its name, too, must survive a power failure
    return file


def _lock(file: int, path: Path) -> None:
    """Held until the process ends, however it ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalUnusable(f"Another process works with the journal {path}.") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
