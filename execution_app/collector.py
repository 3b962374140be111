"""Taking the files that a run made: compared with what was there before, kept by digest.

The listing of what was there before the run's first attempt is stored beside the work directory,
so that a recovered run still knows which files are its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from cmbagent import workdir
from execution_app.services import FoundFile

MAX_FILES = 1_000  # of one collection
MAX_FILE_BYTES = 2 * 2**30
MAX_SKIPPED_SHOWN = 50


@dataclass
class Collection:
    """What one look at the work directory found new."""

    files: list[FoundFile] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    def skip(self, path: str, reason: str) -> None:
        if len(self.skipped) < MAX_SKIPPED_SHOWN:
            self.skipped.append({"path": path, "reason": reason})


class Collector:
    """Knows which files of a work directory have been taken already."""

    def __init__(self, work_dir: Path, baseline: Path) -> None:
        self._work_dir = work_dir
        self._known = _load_baseline(baseline)
        if self._known is None:
            self._known = _stamps(workdir.list_files(work_dir, max_files=workdir.MAX_LISTED))
            _save_baseline(baseline, self._known)

    def collect(self) -> Collection:
        """Store every file that is new or changed since the last look."""
        listing = workdir.list_files(self._work_dir, max_files=workdir.MAX_LISTED)
        collection = Collection()
        for name, reason in listing.skipped:
            collection.skip(name, reason)
        now = _stamps(listing)
        known = self._known or {}
        changed = sorted(path for path, stamp in now.items() if known.get(path) != stamp)
        for path in changed[MAX_FILES:]:
            collection.skip(path, f"more than {MAX_FILES:,} files")
        for path in changed[:MAX_FILES]:
            self._take(path, collection)
        self._known = known | now
        return collection

    def _take(self, path: str, collection: Collection) -> None:
        try:
            stored = workdir.store(
                self._work_dir, path, Path(settings.BLOBS_DIR), max_bytes=MAX_FILE_BYTES
            )
        except (workdir.Unsafe, OSError) as error:
            collection.skip(path, str(error))
            return
        kind, mime = workdir.classify(path)
        collection.files.append(
            FoundFile(path=path, kind=kind, mime=mime, size=stored.size, sha256=stored.sha256)
        )


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
