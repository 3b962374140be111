"""How much a work directory holds, looked at while hostile code may be changing it."""

from __future__ import annotations

import os
import stat

from cmbagent.sandbox import rights

MAX_DEPTH = 100  # deeper nests are made to hide things or to break those who look
_IN_MEMORY = ("/tmp", "/dev/shm")  # noqa: S108
_TRIES = 3  # to look into a folder that is closed again and again
_BLOCK = 512  # what st_blocks counts in, whatever the file system


class Usage:
    def __init__(self) -> None:
        self.bytes = 0
        self.files = 0
        self.too_deep = False
        self.hidden = False  # a folder could not be looked into


def usage_of(work_dir: int, *, max_files: int) -> Usage:
    """Files and folders with the space they take; stops counting beyond `max_files`."""
    usage = Usage()
    _count(os.dup(work_dir), usage, MAX_DEPTH, max_files)
    return usage


def _count(folder: int, usage: Usage, depth: int, max_files: int) -> None:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if usage.files > max_files or usage.too_deep or usage.hidden:
                    return
                _count_entry(entry.name, folder, usage, depth, max_files)
    except OSError:  # a folder that vanishes while being read
        return
    finally:
        os.close(folder)


def _count_entry(name: str, folder: int, usage: Usage, depth: int, max_files: int) -> None:
    try:
        found = _look(name, folder)
        usage.files += 1
        usage.bytes += found.st_blocks * _BLOCK
        if stat.S_ISDIR(found.st_mode):
            if depth == 0:
                usage.too_deep = True
                return
            _count(_open(name, folder), usage, depth - 1, max_files)
    except PermissionError:
        usage.hidden = True
    except OSError:
        return


def _look(name: str, folder: int) -> os.stat_result:
    for _ in range(_TRIES):
        try:
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except PermissionError:
            rights.make_usable(folder)
    raise PermissionError(name)


def _open(name: str, folder: int) -> int:
    for _ in range(_TRIES):
        try:
            return rights.open_folder(name, dir_fd=folder)
        except PermissionError:
            rights.make_usable(folder)
    raise PermissionError(name)


def files_in_memory(pids: list[int]) -> int:
    """Files in /tmp and /dev/shm, if the tree has its own: each takes memory of the kernel's."""
    ours = os.stat(_IN_MEMORY[0]).st_dev
    for pid in pids:
        root = f"/proc/{pid}/root"
        try:
            if os.stat(root + _IN_MEMORY[0]).st_dev != ours:
                return sum(_files_of(root + folder) for folder in _IN_MEMORY)
        except OSError:  # it has just ended: ask the next
            continue
    return 0


def _files_of(folder: str) -> int:
    found = os.statvfs(folder)
    return found.f_files - found.f_ffree
