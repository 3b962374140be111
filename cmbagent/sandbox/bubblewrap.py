"""Level 1: the command line of bubblewrap."""

from __future__ import annotations

import os

from cmbagent.sandbox.visible import View, below_any

SHARED_MEMORY = "/dev/shm"  # noqa: S108
TEMPORARY = "/tmp"  # noqa: S108
MAX_TEMPORARY_BYTES = 256 << 20


class Handed:
    """Descriptors that bubblewrap reads from: the filter and the two account files."""

    def __init__(self, program: bytes, uid: int) -> None:
        # named like the server's user, nobody else: enough for what asks for its own name
        self.filter = readable(program)
        self.passwd = readable(f"cmbagent:x:{uid}:{uid}:::/bin/sh\n".encode())
        self.group = readable(f"cmbagent:x:{uid}:\n".encode())
        self.all = (self.filter, self.passwd, self.group)


def readable(content: bytes) -> int:
    """A descriptor that a program started later reads this from."""
    descriptor = os.memfd_create("sandbox", 0)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def command(
    program: str, view: View, work_dir: str, handed: Handed, *, root: bool, shared_memory: int
) -> list[str]:
    """All but what is to be run. Later words cover earlier ones: the work directory comes last."""
    words = [program, "--die-with-parent", *_namespaces(root)]
    words += ["--proc", "/proc", "--dev", "/dev"]
    words += _memory_folder(SHARED_MEMORY, shared_memory)
    words += _memory_folder(TEMPORARY, min(MAX_TEMPORARY_BYTES, shared_memory))
    for folder in _parents([*view.places, *view.links, "/etc/passwd", work_dir], view.places):
        words += ["--dir", folder]
    for place in view.places:
        words += ["--ro-bind", place, place]
    for path, target in view.links.items():
        words += ["--symlink", target, path]
    for descriptor, path in ((handed.passwd, "/etc/passwd"), (handed.group, "/etc/group")):
        words += ["--perms", "0644", "--ro-bind-data", str(descriptor), path]
    words += ["--bind", work_dir, work_dir]
    # their folders are memory of the machine, and this user's
    words += ["--remount-ro", "/dev", "--remount-ro", "/"]
    return [*words, "--seccomp", str(handed.filter), "--"]


def _parents(paths: list[str], places: list[str]) -> list[str]:
    """The folders to be made, outer ones first: made by the way they would be for root only."""
    found = set()
    for path in paths:
        while (path := os.path.dirname(path)) not in {"/", TEMPORARY}:
            found.add(path)
    return sorted(path for path in found if not below_any(path, places))


def _namespaces(root: bool) -> list[str]:
    words = [f"--unshare-{kind}" for kind in ("net", "pid", "ipc", "uts", "cgroup-try")]
    if not root:
        return [*words, "--unshare-user"]
    # a user namespace of bubblewrap's knows one user only: the last step could become no other
    return [*words, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]


def _memory_folder(path: str, size: int) -> list[str]:
    return ["--perms", "1777", "--size", str(size), "--tmpfs", path]
