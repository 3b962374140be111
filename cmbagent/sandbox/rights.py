"""Folders that executed code has closed, to us too when we are the user it runs as.

Everything goes by descriptors and follows no link: the code may still be at work.
"""

from __future__ import annotations

import os
import stat

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> int:
    """A descriptor for reading; a folder of ours is made readable if it is not. Raises OSError."""
    try:
        return os.open(path, FOLDER, dir_fd=dir_fd)
    except PermissionError:
        _open_up(path, dir_fd)
        return os.open(path, FOLDER, dir_fd=dir_fd)


def _open_up(path: str | os.PathLike[str], dir_fd: int | None) -> None:
    handle = os.open(path, _HANDLE, dir_fd=dir_fd)
    try:
        make_usable(handle)
    finally:
        os.close(handle)


def make_usable(folder: int) -> None:
    """Give its owner, if that is us, all rights in a folder, opened with O_PATH perhaps."""
    found = os.fstat(folder)
    if found.st_uid == os.geteuid() and found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(f"/proc/self/fd/{folder}", stat.S_IMODE(found.st_mode) | stat.S_IRWXU)


def make_ordinary(folder: int) -> None:
    """A work directory's own mode, whatever the code has made of it."""
    if os.geteuid() in {0, os.fstat(folder).st_uid}:
        os.fchmod(folder, 0o755)
