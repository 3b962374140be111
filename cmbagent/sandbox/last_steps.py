"""What a process does to itself just before it becomes executed code: it stops being root, takes
its limits and is replaced.

Level 1 hands this file's text to a fresh interpreter inside the sandbox, where this package is not
to be seen: it imports nothing of ours.
"""

from __future__ import annotations

import marshal
import os
import resource
import sys

TYPE_CHECKING = False  # the type checker knows this name; importing it would take too long
if TYPE_CHECKING:
    from typing import Any

READY = b"ready\n"
# the public module would import enum, which takes longer than all of this
_signal = sys.modules["_signal"]


def become_user(uid: int | None) -> None:
    """Leave root for good: the three user ids change, and with them every capability is gone."""
    if uid is None:
        return
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def take_limits(limits: dict[str, int]) -> None:
    """`limits`: names after RLIMIT_. A hard limit that is already lower stays."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (wanted, wanted))


def restore_signals() -> None:
    """Python ignores two signals that other programs want to end by, and has a handler for INT."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])


def settle(order: dict[str, Any]) -> None:
    take_limits(order["rlimits"])
    restore_signals()
    os.umask(0o022)
    os.chdir(order["cwd"])


def become(order: dict[str, Any], ready: int) -> None:
    """Be replaced by the program; returns only if that failed, after telling `ready` why."""
    os.set_inheritable(ready, False)
    os.write(ready, READY)
    try:
        os.execvpe(order["argv"][0], order["argv"], order["env"])
    except OSError as error:
        os.write(ready, f"{order['argv'][0]}: {error.strerror}".encode())


def main(descriptor: int, ready: int) -> None:
    """Inside level 1. The order comes through a descriptor: arguments could be read by others."""
    with os.fdopen(descriptor, "rb") as file:
        order = marshal.load(file)  # noqa: S302  # the launcher wrote it
    try:
        become_user(order["uid"])
        settle(order)
    except OSError as error:
        os.write(ready, f"inside the sandbox: {error}".encode())
        sys.exit(125)
    become(order, ready)
    sys.exit(126)
