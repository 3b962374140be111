"""The folder for temporary files in a work directory: made for one execution, removed after it.

Earlier code may have left anything in its place, and the launcher can be root: everything goes by
descriptors, and nothing that is a link is followed.
"""

from __future__ import annotations

import os
import stat

NAME = ".tmp"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make(work_dir: int, *folders: str, owner: int | None) -> None:
    """Make the folder, and others inside it. Raises OSError."""
    remove(work_dir)
    os.mkdir(NAME, 0o700, dir_fd=work_dir)
    made = os.open(NAME, _FOLDER, dir_fd=work_dir)
    try:
        for folder in folders:
            os.mkdir(folder, 0o700, dir_fd=made)
            _give(made, folder, owner)
    finally:
        os.close(made)
    _give(work_dir, NAME, owner)


def _give(parent: int, name: str, owner: int | None) -> None:
    if owner is not None:
        os.chown(name, owner, owner, dir_fd=parent, follow_symlinks=False)


def remove(work_dir: int) -> None:
    """Remove the folder with all that is in it; only while none of the code is alive.

    Folders inside it are first moved up into it: code can nest them deeper than anything that
    goes down into them could bear.
    """
    try:
        kind = os.stat(NAME, dir_fd=work_dir, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(kind):
        os.unlink(NAME, dir_fd=work_dir)
        return
    top = _open(NAME, work_dir)
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(NAME, dir_fd=work_dir)


def _open(name: str, parent: int) -> int:
    """Open a folder of ours whose permissions its maker may have taken away."""
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, _FOLDER, dir_fd=parent)


def _empty(top: int) -> None:
    moved = 0
    while folders := _unlink_files(top):
        for name in folders:
            moved = _dissolve(name, top, moved)


def _dissolve(name: str, top: int, moved: int) -> int:
    """Remove one folder of `top`; the folders in it become folders of `top`."""
    folder = _open(name, top)
    try:
        os.fchmod(folder, 0o700)
        for inner in _unlink_files(folder):
            moved += 1
            os.chmod(inner, 0o700, dir_fd=folder)  # one that cannot be written cannot be moved
            os.rename(inner, _unused(moved), src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
    return moved


def _unused(number: int) -> str:
    """A name that code cannot have taken: it could not know it."""
    return f"{number}-{os.urandom(8).hex()}"


def _unlink_files(folder: int) -> list[str]:
    """Unlink all that is no folder; the names of the folders that remain."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    return folders
