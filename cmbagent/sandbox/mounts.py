"""Mounts of one's own for levels 2 and 3, where the kernel grants them.

They are no part of the confinement itself. They make folders reachable that lie below one that
only root may enter, hold /dev/shm for multiprocessing, and keep the files of one's own user from
being touched in the ways that Landlock does not judge.
"""

from __future__ import annotations

import os
import stat

from cmbagent.sandbox import kernel

_HARMLESS = kernel.MS_NOSUID | kernel.MS_NODEV
SHARED_MEMORY = "/dev/shm"  # noqa: S108  # the name that the C library has built in


def separate() -> bool:
    """Give the calling process mounts of its own: False where the kernel does not."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid == 0:
            kernel.unshare(kernel.CLONE_NEWNS)
        else:
            kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
            _keep_ids(uid, gid)
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    except OSError:
        return False
    return True


def _keep_ids(uid: int, gid: int) -> None:
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(line)


def blocked_at(path: str, uid: int) -> str | None:
    """The first folder above `path` that a user without groups may not enter."""
    folder = "/"
    for part in path.strip("/").split("/"):
        found = os.stat(folder)
        allowed = stat.S_IXUSR if found.st_uid == uid else stat.S_IXOTH
        if not found.st_mode & allowed:
            return folder
        folder = os.path.join(folder, part)
    return None


def uncover(paths: list[str], links: dict[str, str], uid: int) -> None:
    """Cover each folder that blocks the way with an empty one that holds nothing but `paths`."""
    blocked = {path: place for path in paths if (place := blocked_at(path, uid))}
    for place in sorted(set(blocked.values())):
        inside = [path for path, where in blocked.items() if where == place]
        _cover(place, inside, {a: b for a, b in links.items() if a.startswith(f"{place}/")})


def _cover(place: str, paths: list[str], links: dict[str, str]) -> None:
    kept = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in paths}
    kernel.mount("tmpfs", place, "tmpfs", _HARMLESS, "mode=0755,size=1m")
    for path, descriptor in kept.items():
        _make_place(path, os.fstat(descriptor))
        source = f"/proc/self/fd/{descriptor}"
        kernel.mount(source, path, "", kernel.MS_BIND | kernel.MS_REC)
        os.close(descriptor)
    for path, target in links.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)


def _make_place(path: str, kind: os.stat_result) -> None:
    if stat.S_ISDIR(kind.st_mode):
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb"):
        pass


def hold_shared_memory(size: int, files: int) -> None:
    """An empty /dev/shm of one's own: named locks and shared arrays of multiprocessing live there."""
    kernel.mount(
        "tmpfs", SHARED_MEMORY, "tmpfs", _HARMLESS, f"mode=1777,size={size},nr_inodes={files}"
    )


def only_writable(path: str) -> None:
    """Nothing but what is below `path` can be changed."""
    kernel.mount(path, path, "", kernel.MS_BIND | kernel.MS_REC)
    kernel.set_read_only("/", read_only=True, recursive=True)
    kernel.set_read_only(path, read_only=False, recursive=False)
