"""The one safe way to open what a run made. Code may put anything there: links, pipes, devices."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import secrets
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MAX_LISTED = 100_000
IGNORED = frozenset({".tmp", ".cache", "__pycache__"})
_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Unsafe(Exception):
    """The path does not lead to a plain file of the work directory."""


@dataclass(frozen=True)
class Stamp:
    """What tells whether a file was written again; the change time cannot be set by code."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass
class Listing:
    files: dict[str, Stamp] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Stored:
    sha256: str
    size: int


@contextmanager
def _folder_of(root: Path, path: str) -> Iterator[tuple[int, str]]:
    *folders, name = path.split("/")
    if not name or any(part in {"", ".", ".."} for part in [*folders, name]):
        raise Unsafe(f"{path!r} is not a plain relative path")
    descriptor = os.open(root, _DIRECTORY)
    try:
        for folder in folders:
            deeper = os.open(folder, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        yield descriptor, name
    except OSError as error:
        raise Unsafe(error.strerror or str(error)) from error
    finally:
        os.close(descriptor)


def open_regular(root: Path, path: str) -> int:
    """A descriptor of the file. Raises Unsafe for links, pipes, devices, hard links."""
    with _folder_of(root, path) as (folder, name):
        descriptor = os.open(name, _FILE, dir_fd=folder)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise Unsafe("not a plain file with one name")
    return descriptor


def write_new(root: Path, path: str, data: bytes, uid: int | None = None) -> None:
    """Write the file, replacing what stood there; parent folders are made on the way."""
    _make_folders(root, path)
    with _folder_of(root, path) as (folder, name):
        temporary = f".{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o644, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if uid is not None:
                os.fchown(descriptor, uid, uid)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _make_folders(root: Path, path: str) -> None:
    parts = path.split("/")[:-1]
    for depth in range(len(parts)):
        with _folder_of(root, "/".join(parts[: depth + 1])) as (folder, name):
            if not os.path.lexists(f"/proc/self/fd/{folder}/{name}"):
                os.mkdir(name, 0o755, dir_fd=folder)


def copy_in(root: Path, path: str, source: Path) -> None:
    """Put a copy of a file of ours into the work directory, replacing what stood there."""
    write_new(root, path, source.read_bytes())


def list_files(root: Path, *, max_files: int = MAX_LISTED) -> Listing:
    """The plain files below root, and what was passed over with the reason."""
    listing = Listing()
    for folder, folders, names, descriptor in os.fwalk(root, follow_symlinks=False):
        folders[:] = [name for name in folders if name not in IGNORED]
        prefix = os.path.relpath(folder, root)
        for name in names:
            if len(listing.files) >= max_files:
                return listing
            path = name if prefix == "." else f"{prefix}/{name}"
            _look(listing, path, name, descriptor)
    return listing


def _look(listing: Listing, path: str, name: str, folder: int) -> None:
    if reason := _bad_name(path):
        listing.skipped.append((ascii(path)[:200], reason))
        return
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return
    if not stat.S_ISREG(found.st_mode):
        listing.skipped.append((path, "not a plain file"))
    elif found.st_nlink != 1:
        listing.skipped.append((path, "it has more than one name"))
    else:
        listing.files[path] = Stamp(
            found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        )


def _bad_name(path: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs"} for character in path):
        return "its name has control or invisible characters"
    return "its name is too long" if len(path) > 1000 else ""


def store(root: Path, path: str, blobs: Path, *, max_bytes: int) -> Stored:
    """Copy the file's bytes into the blob store. Raises Unsafe."""
    descriptor = open_regular(root, path)
    temporary = blobs / f"new.{secrets.token_hex(8)}"
    blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        digest, size = hashlib.sha256(), 0
        with os.fdopen(descriptor, "rb") as source, temporary.open("xb") as target:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > max_bytes:
                    raise Unsafe(f"larger than {max_bytes:,} bytes")
                digest.update(chunk)
                target.write(chunk)
        final = blobs / digest.hexdigest()[:2] / digest.hexdigest()
        final.parent.mkdir(exist_ok=True, mode=0o700)
        temporary.rename(final)
    finally:
        temporary.unlink(missing_ok=True)
    return Stored(digest.hexdigest(), size)


_KINDS = {
    "code": "py js ts java cpp c h go rs rb sh",
    "data": "csv json pkl pickle npz npy parquet yaml yml h5 hdf5 fits",
    "plot": "png jpg jpeg gif pdf svg eps bmp tiff webp",
    "report": "txt md rst html",
    "log": "log",
}
_BY_EXTENSION = {ext: kind for kind, exts in _KINDS.items() for ext in exts.split()}


def classify(path: str) -> tuple[str, str]:
    """(kind, mime) by the name alone."""
    extension = path.rpartition(".")[2].lower()
    mime = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return _BY_EXTENSION.get(extension, "other"), mime
