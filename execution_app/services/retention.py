"""Removing runs and files of deleted sessions, and bytes that nothing names."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog
from django.conf import settings

from execution_app.models import Artifact, JournalEntry, JournalEntryQuerySet, Run, Usage
from execution_app.services.files import blob_path, session_folder
from execution_app.services.runs import cancel_leftovers
from sessions_app.models import Session

logger = structlog.get_logger(__name__)

AT_ONCE = 500
# Bytes are written before their row: what is younger than this may only be waiting for it.
UNCLAIMED_SECONDS = 3600.0


@dataclass
class Removed:
    """What went, or would go."""

    runs: int = 0
    files: int = 0
    bytes: int = 0

    def add(self, other: Removed) -> None:
        self.runs += other.runs
        self.files += other.files
        self.bytes += other.bytes


def is_still_stopping(session: Session) -> bool:
    """A running run of a deleted session is being stopped: its files are still being written.
    What else is live slipped in while the session was deleted, and is cancelled here."""
    cancel_leftovers(session)
    return Run.objects.live().filter(session=session).exists()


def count_runs(session: Session) -> Removed:
    """What erase_runs would remove; bytes that others use too are not counted twice."""
    artifacts = Artifact.objects.filter(session=session)
    entries = _entries(session).exclude(payload_sha256="")
    sizes = dict(artifacts.values_list("sha256", "size"))
    sizes |= dict(entries.values_list("payload_sha256", "size"))
    return Removed(
        runs=Run.objects.filter(session=session).count(),
        files=artifacts.count(),
        bytes=sum(sizes.values()),
    )


def _entries(session: Session) -> JournalEntryQuerySet:
    return JournalEntry.objects.filter(run__session=session)


def erase_runs(session: Session) -> Removed:
    """Remove a deleted session's runs with their journals, artifacts, bytes and folder."""
    if session.deleted_at is None or is_still_stopping(session):
        raise ValueError("only a deleted session without a live run is erased")
    removed, deleted = Removed(), session.deleted_at.timestamp()
    artifacts = Artifact.objects.filter(session=session)
    while some := list(artifacts.values_list("pk", "sha256")[:AT_ONCE]):
        removed.files += artifacts.filter(pk__in=[pk for pk, _ in some]).delete()[0]
        removed.bytes += _remove_unused({sha for _, sha in some}, written_before=deleted)
    Usage.objects.filter(run__session=session).delete()
    while some := list(_entries(session).values_list("pk", "payload_sha256")[:AT_ONCE]):
        JournalEntry.objects.filter(pk__in=[pk for pk, _ in some]).delete()
        removed.bytes += _remove_unused({sha for _, sha in some} - {""}, written_before=deleted)
    remove_folder(session_folder(session.pk))
    removed.runs = Run.objects.filter(session=session).delete()[1].get(Run._meta.label, 0)
    return removed


def sweep_blobs(*, dry_run: bool = False) -> int:
    """Remove bytes that no artifact and no journal names and that nobody is about to name; how
    many bytes."""
    settled = (path for path in _blobs() if _age(path) > UNCLAIMED_SECONDS)
    freed = 0
    while some := {path.name: path for path in islice(settled, AT_ONCE)}:
        for name in _unused(set(some)):
            freed += _size(some[name]) if dry_run else _remove(some[name])
    return freed


def remove_folder(folder: Path) -> None:
    """Remove what code left, whatever it is: folders nested a thousand deep, closed ones, links
    (which are removed, not followed)."""
    if not folder.exists():
        return
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf", "--one-file-system"]):
        done = subprocess.run(
            [*command, "--", str(folder)], check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            logger.warning("folder_not_removed", folder=folder.name, error=done.stderr[-500:])


def _remove_unused(names: set[str], *, written_before: float) -> int:
    """Bytes written since then may belong to somebody who is about to say so: the sweep knows."""
    paths = [blob_path(name) for name in _unused(names)]
    return sum(_remove(path) for path in paths if _age(path) > time.time() - written_before)


def _unused(names: set[str]) -> set[str]:
    files = Artifact.objects.filter(sha256__in=names).values_list("sha256", flat=True)
    payloads = JournalEntry.objects.filter(payload_sha256__in=names)
    return names - set(files) - set(payloads.values_list("payload_sha256", flat=True))


def _blobs() -> Iterator[Path]:
    """Every file of the store: named by digest in folders, half-written ones beside these."""
    root = Path(settings.BLOBS_DIR)
    if root.exists():
        yield from (path for path in root.rglob("*") if path.is_file())


def _age(path: Path) -> float:
    """Seconds since its last byte was written; of a file that is gone: none."""
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _remove(path: Path) -> int:
    size = _size(path)
    path.unlink(missing_ok=True)
    return size
