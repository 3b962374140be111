"""System calls that Python has no function for. Errors come as OSError.

Everything the launcher imports is chosen for its start time: no dataclasses, typing or signal.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUSER = 0x1000_0000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x4_0000

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1
_SYS_MOUNT_SETATTR = 442  # the same on every architecture, like all calls since Linux 5.1

_libc = ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: int) -> int:
    result: int = _libc.syscall(number, *map(ctypes.c_long, arguments))
    return _checked(result, f"system call {number}")


def prctl(option: int, *arguments: int) -> None:
    words = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    _checked(_libc.prctl(option, *words), f"prctl {option}")


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = [text.encode() for text in (source, target, kind)]
    _checked(_libc.mount(*words, ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def set_read_only(path: str, *, read_only: bool, recursive: bool) -> None:
    """Change a mount of this namespace (Linux 5.12); the file system itself is left alone."""
    change = (_MOUNT_ATTR_RDONLY, 0) if read_only else (0, _MOUNT_ATTR_RDONLY)
    attributes = (ctypes.c_uint64 * 4)(*change, 0, 0)
    where = ctypes.create_string_buffer(path.encode())
    syscall(
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        ctypes.addressof(where),
        _AT_RECURSIVE if recursive else 0,
        ctypes.addressof(attributes),
        ctypes.sizeof(attributes),
    )


def install_filter(program: bytes) -> None:
    """Bind the calling thread, and all it starts, to a seccomp program."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    code = ctypes.create_string_buffer(program, len(program))
    header = Program(len(program) // 8, ctypes.addressof(code))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header))


def machine() -> str:
    """The architecture of this very process: a 32-bit one on a 64-bit kernel is not the kernel's."""
    name = os.uname().machine
    return name if sys.maxsize > 2**32 else f"{name} (32 bit)"


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} ({what})")
    return result
