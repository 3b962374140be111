"""Landlock: which files a process and all it starts may reach, kept by the kernel.

Bits and structures: linux/landlock.h. A kernel knows a version of it (ABI); what an older one
lacks is refused by the seccomp program (see seccomp.py), or is not needed because of it.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

from cmbagent.sandbox import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR = 1 << 4, 1 << 5, 1 << 6, 1 << 7
MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = 1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = EXECUTE | READ_FILE | READ_DIR
DEVICE = READ_FILE | WRITE_FILE | TRUNCATE
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_FIFO | MAKE_SYM
WRITE |= REFER | TRUNCATE

_FILE_ONLY = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_CONNECT_AND_BIND_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

RENAMING_SINCE, TRUNCATION_SINCE, NETWORK_SINCE, DEVICES_SINCE, SCOPES_SINCE = 2, 3, 4, 5, 6


def abi() -> int:
    """The version this kernel knows. Raises OSError where Landlock is absent or switched off."""
    return kernel.syscall(_CREATE, 0, 0, _VERSION)


def handled(version: int) -> int:
    """All that a ruleset can forbid with this version."""
    known = IOCTL_DEV * 2 - 1
    if version < RENAMING_SINCE:
        known &= ~REFER
    if version < TRUNCATION_SINCE:
        known &= ~TRUNCATE
    if version < DEVICES_SINCE:
        known &= ~IOCTL_DEV
    return known


class Ruleset:
    """Nothing is allowed but what `allow` names; holds for the process after `enforce`."""

    def __init__(self) -> None:
        version = abi()
        self._handled = handled(version)
        words = [self._handled]
        if version >= NETWORK_SINCE:
            words.append(_CONNECT_AND_BIND_TCP)
        if version >= SCOPES_SINCE:
            words.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
        attributes = (ctypes.c_uint64 * len(words))(*words)
        size = ctypes.sizeof(attributes)
        self._descriptor = kernel.syscall(_CREATE, ctypes.addressof(attributes), size, 0)
        os.set_inheritable(self._descriptor, False)

    def allow(self, path: str, access: int) -> None:
        """Allow `access` to a file, or to a folder and all below it; an absent path is none."""
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            self._add(descriptor, access)
        finally:
            os.close(descriptor)

    def _add(self, descriptor: int, access: int) -> None:
        access &= self._handled
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _FILE_ONLY
        rule = ctypes.create_string_buffer(struct.pack("=Qi", access, descriptor), 12)
        kernel.syscall(_ADD, self._descriptor, _PATH_BENEATH, ctypes.addressof(rule), 0)

    def enforce(self) -> None:
        """Bind the calling process for ever. It needs no_new_privs."""
        kernel.syscall(_RESTRICT, self._descriptor, 0)
