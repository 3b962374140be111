"""Taking the files that a run made: compared with what was there before, kept by digest.

The listing of what was there before the run's first attempt is stored beside the work directory,
so that a recovered run still knows which files are its own.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from cmbagent import workdir
from execution_app.services import FoundFile

MAX_FILES = 1_000  # of one collection
MAX_FILE_BYTES = 2 * 2**30
MAX_COLLECTION_BYTES = 8 * 2**30
RESERVED_BYTES = 2**30  # of the disk, for the database and the others
MAX_SKIPPED_SHOWN = 50
MAX_PATH = 1_000  # what the table takes
MAX_SHOWN = 200  # characters of a name that was left out


@dataclass
class Collection:
    """What one look at the work directory found new."""

    files: list[FoundFile] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    def skip(self, path: str, reason: str) -> None:
        if len(self.skipped) < MAX_SKIPPED_SHOWN:
            self.skipped.append({"path": path[:MAX_SHOWN], "reason": reason[:MAX_SHOWN]})


class Collector:
    """Knows which files of a work directory have been taken already."""

    def __init__(self, work_dir: Path, baseline: Path) -> None:
        self._work_dir = work_dir
        self._deadline = math.inf
        self._known = _load_baseline(baseline)
        if self._known is None:
            self._known = _stamps(_listing(work_dir))
            _save_baseline(baseline, self._known)

    def finish_within(self, seconds: float) -> None:
        """The run is being ended: what is not kept by then is left out, and said."""
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def collect(self) -> Collection:
        """Store every file that is new or changed since the last look."""
        listing = _listing(self._work_dir)
        collection = Collection()
        for name, reason in listing.skipped:
            collection.skip(name, reason)
        now = _stamps(listing)
        known = self._known or {}
        changed = sorted(path for path, stamp in now.items() if known.get(path) != stamp)
        for path in changed[MAX_FILES:]:
            collection.skip(path, f"more than {MAX_FILES:,} files")
        room = min(MAX_COLLECTION_BYTES, _free_bytes() - RESERVED_BYTES)
        for path in changed[:MAX_FILES]:
            size = listing.files[path].size  # as it looks: a sparse file is copied whole
            if reason := self._refusal(path, size, room):
                collection.skip(path, reason)
            elif self._take(path, collection):
                room -= size
        self._known = known | now
        return collection

    def _refusal(self, path: str, size: int, room: int) -> str:
        """Why a file is not even opened; empty when it may be taken."""
        if len(path) > MAX_PATH:
            return f"its path is longer than {MAX_PATH:,} characters"
        if size > MAX_FILE_BYTES:
            return f"larger than {MAX_FILE_BYTES / 2**30:g} GB"
        if size > room:
            return "no room for it: the run's files together, or the server's disk"
        if self._is_late():
            return "the run was ended before it could be kept"
        return ""

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _take(self, path: str, collection: Collection) -> bool:
        try:
            stored = workdir.store(
                self._work_dir,
                path,
                Path(settings.BLOBS_DIR),
                max_bytes=MAX_FILE_BYTES,
                stop=self._is_late,
            )
        except (workdir.Unsafe, OSError) as error:
            collection.skip(path, str(error))
            return False
        kind, mime = workdir.classify(path)
        collection.files.append(
            FoundFile(path=path, kind=kind, mime=mime, size=stored.size, sha256=stored.sha256)
        )
        return True


def _free_bytes() -> int:
    blobs = Path(settings.BLOBS_DIR)
    blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
    return shutil.disk_usage(blobs).free


def _listing(work_dir: Path) -> workdir.Listing:
    """Code may have taken the folder's rights away: then there is nothing to take, and it is said."""
    try:
        return workdir.list_files(work_dir, max_files=workdir.MAX_LISTED)
    except (workdir.Unsafe, OSError) as error:
        return workdir.Listing(skipped=[("the work directory", str(error))])


def _stamps(listing: workdir.Listing) -> dict[str, list[int]]:
    # the change time cannot be set by code: a file that was written again is seen
    return {
        path: [stamp.inode, stamp.size, stamp.ctime_ns] for path, stamp in listing.files.items()
    }


def _load_baseline(file: Path) -> dict[str, list[int]] | None:
    try:
        loaded: dict[str, list[int]] = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return loaded


def _save_baseline(file: Path, stamps: dict[str, list[int]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(stamps))
    temporary.replace(file)
