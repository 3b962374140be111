"""The files that a task made in its work directory. They stay where they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cmbagent import workdir
from cmbagent.wire import Collected, CollectedFile

MAX_SKIPPED_SHOWN = 50

Stamps = dict[str, list[int]]  # path: inode, size, change time in ns


class Collector:
    """Knows what was there before: `known` are the stamps of the task's beginning."""

    def __init__(self, work_dir: Path, known: Stamps) -> None:
        self._work_dir = work_dir
        self._known = known
        self.skipped: list[dict[str, str]] = []

    def collect(self) -> Collected:
        """What is new or changed since the last look; `skipped` is what nobody should open."""
        listing = listing_of(self._work_dir)
        self.skipped = [
            {"path": path, "reason": reason} for path, reason in listing.skipped[:MAX_SKIPPED_SHOWN]
        ]
        now = stamps_of(listing)
        changed = sorted(path for path, stamp in now.items() if self._known.get(path) != stamp)
        self._known = self._known | now
        files = [file for path in changed if (file := self._looked_at(path))]
        return {"t": "collected", "files": files, "skipped": len(self.skipped)}

    def _looked_at(self, path: str) -> CollectedFile | None:
        """As the file is that can be opened, not as its name looked a moment ago."""
        try:
            descriptor = workdir.open_regular(self._work_dir, path)
        except (workdir.Unsafe, OSError) as error:
            self.skipped.append({"path": path, "reason": str(error)})
            return None
        try:
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        kind, mime = workdir.classify(path)
        return {"path": path, "kind": kind, "mime": mime, "size": size}


def listing_of(work_dir: Path) -> workdir.Listing:
    try:
        return workdir.list_files(work_dir, max_files=workdir.MAX_LISTED)
    except (workdir.Unsafe, OSError) as error:
        return workdir.Listing(skipped=[("the work directory", str(error))])


def stamps_of(listing: workdir.Listing) -> Stamps:
    # the change time cannot be set by code: a file that was written again is seen
    return {path: [s.inode, s.size, s.ctime_ns] for path, s in listing.files.items()}


def told(collected: Collected, skipped: list[dict[str, str]]) -> dict[str, Any]:
    """The data of a files_updated event."""
    return {"files": collected["files"], "skipped": skipped}
