"""How much a work directory holds, looked at while hostile code may be changing it."""

from __future__ import annotations

import os
import stat

MAX_DEPTH = 100  # deeper nests are made to hide things or to break those who look
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_BLOCK = 512  # what st_blocks counts in, whatever the file system


class Usage:
    def __init__(self) -> None:
        self.bytes = 0
        self.files = 0
        self.too_deep = False


def usage_of(work_dir: int, *, max_files: int) -> Usage:
    """Files and folders with the space they take; stops counting beyond `max_files`."""
    usage = Usage()
    _count(os.dup(work_dir), usage, MAX_DEPTH, max_files)
    return usage


def _count(folder: int, usage: Usage, depth: int, max_files: int) -> None:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if usage.files > max_files or usage.too_deep:
                    return
                _count_entry(entry, folder, usage, depth, max_files)
    except OSError:  # a folder that vanishes or shuts itself while being read
        return
    finally:
        os.close(folder)


def _count_entry(
    entry: os.DirEntry[str], folder: int, usage: Usage, depth: int, max_files: int
) -> None:
    try:
        found = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
        usage.files += 1
        usage.bytes += found.st_blocks * _BLOCK
        if stat.S_ISDIR(found.st_mode):
            if depth == 0:
                usage.too_deep = True
                return
            inner = os.open(entry.name, _FOLDER, dir_fd=folder)
            _count(inner, usage, depth - 1, max_files)
    except OSError:
        return


def deleted_bytes(pids: list[int], device: int) -> int:
    """Space of files that have no name any more but are still open in one of the processes."""
    files: dict[int, int] = {}
    for pid in pids:
        for descriptor in _descriptors(pid):
            try:
                found = os.stat(f"/proc/{pid}/fd/{descriptor}")
            except OSError:
                continue
            if found.st_nlink == 0 and found.st_dev == device and stat.S_ISREG(found.st_mode):
                files[found.st_ino] = found.st_blocks * _BLOCK
    return sum(files.values())


def _descriptors(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
