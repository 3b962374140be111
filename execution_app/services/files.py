"""Files of sessions: work directories, uploads, artifacts kept once by digest."""

from __future__ import annotations

import hashlib
import os
import secrets
import unicodedata
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from cmbagent import workdir
from execution_app.errors import SessionDeleted, UploadInvalid, UploadTooLarge
from execution_app.models import Artifact
from execution_app.sandbox import code_uid
from sessions_app.event_types import FilesUpdated
from sessions_app.models import Session
from sessions_app.services import append_events


@dataclass(frozen=True)
class FoundFile:
    """A file whose bytes are in the blob store already."""

    path: str
    kind: str
    mime: str
    size: int
    sha256: str

    def shown(self) -> dict[str, str | int]:
        return {"path": self.path, "kind": self.kind, "mime": self.mime, "size": self.size}


def session_folder(session_id: uuid.UUID) -> Path:
    return Path(settings.SESSIONS_DIR) / str(session_id)


def work_dir(session_id: uuid.UUID) -> Path:
    """The one folder that this session's code may write to; made at the first call."""
    path = session_folder(session_id) / "work"
    path.mkdir(parents=True, exist_ok=True)
    return path


def artifact_file(artifact: Artifact) -> Path:
    """Where its bytes lie."""
    return blob_path(artifact.sha256)


def blob_path(sha256: str) -> Path:
    return Path(settings.BLOBS_DIR) / sha256[:2] / sha256


def record_artifacts(
    session_id: uuid.UUID, run_id: uuid.UUID | None, files: Sequence[FoundFile]
) -> None:
    """Rows for files of a run; a file made again replaces what it was before."""
    owner = Artifact.objects.filter(session_id=session_id)
    owner = owner.filter(run_id=run_id) if run_id else owner.filter(run__isnull=True)
    for file in files:
        owner.update_or_create(
            path=file.path,
            create_defaults={
                "session_id": session_id,
                "run_id": run_id,
                "path": file.path,
                "kind": file.kind,
                "mime": file.mime,
                "size": file.size,
                "sha256": file.sha256,
            },
            defaults={
                "kind": file.kind,
                "mime": file.mime,
                "size": file.size,
                "sha256": file.sha256,
            },
        )


def store_bytes(path: str, data: bytes) -> FoundFile:
    """Put bytes of our own into the blob store under the name of a file."""
    sha256 = store_blob(data)
    kind, mime = workdir.classify(path)
    return FoundFile(path=path, kind=kind, mime=mime, size=len(data), sha256=sha256)


def store_blob(data: bytes) -> str:
    """Its sha256; the bytes are on the disk before a row can name them."""
    sha256 = hashlib.sha256(data).hexdigest()
    target = blob_path(sha256)
    if target.exists():
        os.utime(target)  # young again: no clean-up that is under way takes it for unused
        return sha256
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = target.with_name(f"{sha256}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    return sha256


def read_blob(sha256: str) -> bytes:
    """Raises OSError when it is not there, ValueError when it is not what was stored."""
    data = blob_path(sha256).read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"the bytes of {sha256} have changed")
    return data


def store_upload(session: Session, *, name: str, chunks: Iterable[bytes], by: User) -> Artifact:
    """Put a person's file into the session. Raises UploadInvalid, UploadTooLarge.

    A file of the same name is replaced for the runs to come; runs that were keep what they made.
    """
    return record_upload(session, receive_upload(session, name=name, chunks=chunks), by=by)


def receive_upload(session: Session, *, name: str, chunks: Iterable[bytes]) -> FoundFile:
    """The slow half of store_upload, the bytes: call it outside of any transaction."""
    found = keep_upload(name=name, chunks=chunks)
    workdir.copy_in(work_dir(session.pk), found.path, blob_path(found.sha256), code_uid(session.pk))
    return found


def keep_upload(*, name: str, chunks: Iterable[bytes]) -> FoundFile:
    """A person's file among the bytes that are kept; of no session yet."""
    return _store_chunks(checked_name(name), chunks)


def record_upload(session: Session, found: FoundFile, *, by: User) -> Artifact:
    """The other half, the rows."""
    with transaction.atomic():
        record_artifacts(session.pk, None, [found])
        append_events(session.pk, [FilesUpdated(files=[found.shown() | {"by": by.get_username()}])])
        refuse_deleted(session.pk)
        return Artifact.objects.get(session=session, run=None, path=found.path)


def refuse_deleted(session_id: uuid.UUID) -> None:
    """Raises SessionDeleted. Called when the log was written: that locked the session's row, so
    a deletion is either visible here, or waits for us and finds what we made."""
    if Session.objects.filter(pk=session_id, deleted_at__isnull=False).exists():
        raise SessionDeleted


def checked_name(name: str) -> str:
    """The plain file name of an upload. Raises UploadInvalid."""
    base = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2]).strip()
    if not base or base.startswith(".") or len(base.encode()) > 200:
        raise UploadInvalid("The file needs a name of 1 to 200 bytes that begins with no dot.")
    if base == "runs" or base in workdir.IGNORED:  # where runs lie, and what is never collected
        raise UploadInvalid(f"{base} is a name that runs use themselves: rename the file.")
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co"} for character in base):
        raise UploadInvalid("The file's name contains invisible or control characters: rename it.")
    return base


def _store_chunks(path: str, chunks: Iterable[bytes]) -> FoundFile:
    blobs = Path(settings.BLOBS_DIR)
    blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = blobs / f"upload.{secrets.token_hex(8)}"
    try:
        sha256, size = _write_chunks(temporary, chunks)
        target = blob_path(sha256)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    kind, mime = workdir.classify(path)
    return FoundFile(path=path, kind=kind, mime=mime, size=size, sha256=sha256)


def _write_chunks(target: Path, chunks: Iterable[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > settings.MAX_UPLOAD_BYTES:
                raise UploadTooLarge
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), size
