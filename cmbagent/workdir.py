"""The one way in which trusted code opens what a run made.

Code may have put anything into its work directory, and may be changing it this very moment: links
to secrets, pipes that block whoever opens them, devices, names that mislead people. Everything here
goes from one directory descriptor to the next, never by a whole path, and judges the file that is
open, not the one a name stood for a moment ago. docs/decisions/0011-safe-opener.md says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cmbagent.kinds import classify
from cmbagent.sandbox import rights

__all__ = [
    "IGNORED",
    "MAX_LISTED",
    "Listing",
    "Stamp",
    "Stored",
    "Unsafe",
    "classify",
    "copy_in",
    "list_files",
    "open_regular",
    "store",
    "visible",
    "write_new",
]

MAX_LISTED = 20_000  # files of one work directory that are looked at
MAX_SKIPPED = 1_000
MAX_DEPTH = 50
IGNORED = frozenset({".tmp", ".cache", "__pycache__"})

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# O_NONBLOCK: opening a pipe must not wait for a writer. O_NOCTTY: nor must a terminal become ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_TRIES = 3
_MISLEADING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class Unsafe(Exception):
    """This is nothing that trusted code opens; the text says why, and is fit for people."""


@dataclass(frozen=True)
class Stamp:
    """Tells whether a file is still the one it was: its change time cannot be set by code."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True)
class Listing:
    """`files` by path relative to the work directory; `skipped` has names made visible."""

    files: dict[str, Stamp] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, name: str, reason: str) -> None:
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append((visible(name), reason))


@dataclass(frozen=True)
class Stored:
    sha256: str
    size: int


def open_regular(root: Path, path: str) -> int:
    """A descriptor for reading the regular file at `path` below `root`; the caller closes it.

    Raises Unsafe for anything else: a link on the way, a second name, a pipe, a device, nothing.
    """
    *folders, name = _parts(path)
    with _opened_folder(root, folders, create=False, uid=None) as parent:
        return _open_file(parent, name)


def write_new(root: Path, path: str, data: bytes, uid: int | None = None) -> None:
    """Put a file there in one step, over whatever had that name; made folders and the file are
    given to `uid`. What has the name of a folder on the way and is none, and a folder that has
    the file's name, is renamed to `<name>.moved-<random>`. Raises Unsafe if that does not help."""
    *folders, name = _parts(path)
    with _opened_folder(root, folders, create=True, uid=uid) as parent:
        with contextlib.suppress(OSError):  # no folder is there
            os.close(os.open(name, _FOLDER | os.O_PATH, dir_fd=parent))
            _move_away(parent, name)
        with _replacing(parent, name, uid) as target:
            _write_all(target, data)


def copy_in(root: Path, path: str, source: Path, uid: int | None = None) -> None:
    """Like write_new, with the content of a file of our own; but a folder is left where it is."""
    *folders, name = _parts(path)
    with (
        _opened_folder(root, folders, create=True, uid=uid) as parent,
        _replacing(parent, name, uid) as target,
        source.open("rb") as file,
    ):
        while chunk := file.read(_CHUNK):
            _write_all(target, chunk)


def list_files(root: Path, *, max_files: int) -> Listing:
    """All regular files below `root` with what was left out, and why. Opens no file."""
    listing = Listing()
    top = rights.open_folder(root)
    _list_folder(top, "", listing, max_files)
    return listing


def store(
    root: Path,
    path: str,
    blobs: Path,
    *,
    max_bytes: int,
    stop: Callable[[], bool] | None = None,
) -> Stored:
    """Keep a copy of the file under the digest of what was copied. Raises Unsafe, also when the
    file is larger than `max_bytes`, or when `stop`, asked once for each megabyte, says so."""
    source = open_regular(root, path)
    blobs.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = blobs / f"incoming.{secrets.token_hex(8)}"
    try:
        stored = _copy(source, temporary, max_bytes, stop)
        folder = blobs / stored.sha256[:2]
        folder.mkdir(exist_ok=True, mode=0o700)
        temporary.replace(folder / stored.sha256)
        _sync(folder)
    finally:
        os.close(source)
        temporary.unlink(missing_ok=True)
    return stored


def visible(name: str) -> str:
    """The name with everything in it shown that a reader would not see, or see in another order."""
    return "".join(
        char if unicodedata.category(char) not in _MISLEADING else f"\\u{ord(char):04x}"
        for char in name
    )


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise Unsafe("not a path below the work directory")
    return parts


@contextlib.contextmanager
def _opened_folder(
    root: Path, folders: list[str], *, create: bool, uid: int | None
) -> Iterator[int]:
    """A descriptor of the folder that `folders` lead to, each of them no link."""
    current = rights.open_folder(root)
    try:
        for name in folders:
            inner = _enter(current, name, create=create, uid=uid)
            os.close(current)
            current = inner
        yield current
    finally:
        os.close(current)


def _enter(parent: int, name: str, *, create: bool, uid: int | None) -> int:
    try:
        return _make_way(parent, name, uid) if create else os.open(name, _FOLDER, dir_fd=parent)
    except OSError as error:
        raise Unsafe(f"{visible(name)} is no folder") from error


def _make_way(parent: int, name: str, uid: int | None) -> int:
    """Open the folder, made if it is not there, however the code has left it."""
    rights.make_usable(parent)
    _make_folder(parent, name)
    try:
        folder = rights.open_folder(name, dir_fd=parent)
    except NotADirectoryError:  # of a link too: none is followed
        _move_away(parent, name)
        _make_folder(parent, name)
        folder = rights.open_folder(name, dir_fd=parent)
    rights.make_usable(folder)
    if os.fstat(folder).st_uid == os.geteuid():
        # ours: just made, or made by an engine that was killed before it could hand it over
        _hand_over(folder, 0o755, uid)
    return folder


def _move_away(parent: int, name: str) -> None:
    other = f"{name}.moved-{secrets.token_hex(4)}"
    os.rename(name, other, src_dir_fd=parent, dst_dir_fd=parent)


def _make_folder(parent: int, name: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)


def _hand_over(descriptor: int, mode: int, uid: int | None) -> None:
    """The mode is set apart from the making: a umask must not shut the code's user out."""
    os.fchmod(descriptor, mode)
    if uid is not None:
        os.fchown(descriptor, uid, uid)


def _open_file(parent: int, name: str) -> int:
    """Waits until the file has been left alone long enough to trust what it says of itself."""
    seen: tuple[int, int] | None = None
    for _ in range(_TRIES):
        begun = time.time_ns()
        descriptor, found = _open_once(parent, name)
        if found.st_ctime_ns + _grain(found) < begun or (found.st_ino, found.st_ctime_ns) == seen:
            return descriptor
        os.close(descriptor)
        seen = (found.st_ino, found.st_ctime_ns)
        time.sleep(_grain(found) / 1e9)
    raise Unsafe("it is being changed")


def _open_once(parent: int, name: str) -> tuple[int, os.stat_result]:
    try:
        descriptor = os.open(name, _FILE, dir_fd=parent)
    except OSError as error:
        raise Unsafe(f"it cannot be opened ({os.strerror(error.errno or 0)})") from error
    found = os.fstat(descriptor)
    if reason := _objection(found):
        os.close(descriptor)
        raise Unsafe(reason)
    return descriptor, found


def _grain(found: os.stat_result) -> int:
    """How far apart two changes must be, in ns, for their times to differ for certain.

    A secret's second name can be removed between our opening it and our counting its names; that
    changes its change time. Only an older change time proves that it had one name all along.
    """
    return 20_000_000 if found.st_ctime_ns % 1_000_000_000 else 2_000_000_000


def _objection(found: os.stat_result) -> str | None:
    if not stat.S_ISREG(found.st_mode):
        return f"not a regular file but {_kind_of(found.st_mode)}"
    # the other name can be a secret's: links need no right to read what they name
    return None if found.st_nlink == 1 else "it has more than one name"


def _kind_of(mode: int) -> str:
    for is_kind, word in (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if is_kind(mode):
            return word
    return "a device"


@contextlib.contextmanager
def _replacing(parent: int, name: str, uid: int | None) -> Iterator[int]:
    """A new file that takes the name when all of it is written."""
    temporary = f".{secrets.token_hex(8)}.new"
    target = os.open(temporary, _NEW, 0o600, dir_fd=parent)
    try:
        yield target
        _hand_over(target, 0o644, uid)
        _rename(parent, temporary, name)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        raise
    finally:
        os.close(target)


def _rename(parent: int, temporary: str, name: str) -> None:
    try:
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError as error:
        raise Unsafe(f"{visible(name)} is in the way ({os.strerror(error.errno or 0)})") from error


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _list_folder(folder: int, prefix: str, listing: Listing, max_files: int) -> None:
    """Closes `folder`."""
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name not in IGNORED:
                    _list_entry(folder, entry.name, prefix, listing, max_files)
    except OSError as error:
        listing.skip(prefix, f"it cannot be read ({os.strerror(error.errno or 0)})")
    finally:
        os.close(folder)


def _list_entry(folder: int, name: str, prefix: str, listing: Listing, max_files: int) -> None:
    path = prefix + name
    if visible(name) != name:
        listing.skip(path, "its name has characters that cannot be seen")
        return
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:  # gone since
        return
    if stat.S_ISDIR(found.st_mode):
        _descend(folder, name, path, listing, max_files)
    elif reason := _objection(found):
        listing.skip(path, reason)
    elif len(listing.files) >= max_files:
        listing.skip(path, f"more than {max_files:,} files")
    else:
        stamp = Stamp(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        listing.files[path] = stamp


def _descend(folder: int, name: str, path: str, listing: Listing, max_files: int) -> None:
    if path.count("/") >= MAX_DEPTH:
        listing.skip(path, f"more than {MAX_DEPTH} folders deep")
        return
    try:
        inner = os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:  # it is no folder any more, or may not be read
        listing.skip(path, f"it cannot be opened ({os.strerror(error.errno or 0)})")
        return
    _list_folder(inner, f"{path}/", listing, max_files)


def _copy(source: int, target: Path, max_bytes: int, stop: Callable[[], bool] | None) -> Stored:
    digest, size = hashlib.sha256(), 0
    _limit(os.fstat(source).st_size, max_bytes)
    with target.open("xb") as file:
        target.chmod(0o600)
        while chunk := os.read(source, _CHUNK):
            if stop is not None and stop():
                raise Unsafe("stopped")
            size += len(chunk)
            _limit(size, max_bytes)
            digest.update(chunk)
            _write_unless_empty(file, chunk)
        file.truncate(size)
        os.fsync(file.fileno())
    return Stored(digest.hexdigest(), size)


def _limit(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise Unsafe(f"larger than {max_bytes:,} bytes")


def _write_unless_empty(file: BinaryIO, chunk: bytes) -> None:
    """Holes stay holes: a file of nothing else must not fill our disk."""
    if chunk == _ZEROS[: len(chunk)]:
        file.seek(len(chunk), os.SEEK_CUR)
    else:
        file.write(chunk)


def _sync(folder: Path) -> None:
    """A name, too, must survive a power failure."""
    descriptor = os.open(folder, _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
