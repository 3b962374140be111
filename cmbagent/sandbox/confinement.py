"""What the launcher's child does to become executed code, by level. None of these return."""

from __future__ import annotations

import marshal
import os
import sys

from cmbagent.sandbox import bubblewrap, kernel, last_steps, mounts, policy, seccomp, visible
from cmbagent.sandbox.landlock import DEVICE, READ, WRITE, Ruleset, abi

TYPE_CHECKING = False  # the type checker knows this name; importing it would take too long
if TYPE_CHECKING:
    from typing import Any

_SHARED_MEMORY_PART = 4  # of the memory limit
_KILL = 9


class Refused(Exception):
    """This level cannot be had here; the text says why."""


def view_of(order: dict[str, Any]) -> visible.View:
    """What the order's code gets to see. Raises Refused if that would show it other sessions."""
    program = os.path.realpath(sys.executable)
    wanted = [*order["readable"], *visible.of_interpreter(order["argv"][0])]
    shown = visible.View(
        [
            *visible.SYSTEM_DIRECTORIES,
            *visible.SYSTEM_FILES,
            *visible.of_interpreter(program),
            *wanted,
        ]
    )
    # by whatever name it was called, code finds it under that name too
    order["work_dir"] = visible.follow(order["work_dir"], shown.links)
    if order["level"] < 3 and visible.below_any(order["work_dir"], shown.places):
        places = [place for place in shown.places if visible.below_any(order["work_dir"], [place])]
        raise Refused(
            f"the sessions' folder lies below {places[0]}, which all executed code may read"
        )
    return shown


def contain(order: dict[str, Any], view: visible.View, ready: int) -> None:
    """Level 1: bubblewrap makes the namespaces, a fresh interpreter in them takes the last steps."""
    if order["bubblewrap"] is None:
        raise Refused("bubblewrap is not installed (there is no bwrap on PATH)")
    uid = order["uid"]
    handed = bubblewrap.Handed(policy.contained(_machine()), os.geteuid() if uid is None else uid)
    inner = bubblewrap.readable(marshal.dumps(order))
    words = bubblewrap.command(
        order["bubblewrap"],
        view,
        order["work_dir"],
        handed,
        root=uid is not None,
        shared_memory=_shared_memory(order),
    )
    words += [os.path.realpath(sys.executable), "-I", "-S", "-c", _last_steps()]
    os.set_inheritable(ready, True)
    os.execve(words[0], [*words, str(inner), str(ready)], {})


def _last_steps() -> str:
    """The text, because inside the sandbox the file is not to be seen."""
    with open(last_steps.__file__, encoding="utf-8") as file:
        return f"{file.read()}\nmain(int(sys.argv[1]), int(sys.argv[2]))"


def confine(order: dict[str, Any], view: visible.View, ready: int) -> None:
    """Level 2: Landlock and a seccomp program, with mounts of its own where there can be any."""
    machine, leader = _machine(), os.getpid()
    version = _landlock_version()
    shared_memory, read_only = _own_mounts(order, view)
    rules = _rules(view, order["work_dir"], shared_memory=shared_memory)
    _become_harmless(order)
    rules.enforce()
    last_steps.settle(order)
    program = policy.confined(
        machine, abi=version, shared_uid=order["uid"] is None, read_only=read_only, leader=leader
    )
    kernel.install_filter(program)
    last_steps.become(order, ready)


def restrict(order: dict[str, Any], view: visible.View, ready: int) -> None:
    """Level 3: limits, and no way out of the group where the kernel can refuse it."""
    _reach(order, view)
    _become_harmless(order)
    last_steps.settle(order)
    if seccomp.available(kernel.machine()):
        kernel.install_filter(policy.held_together(kernel.machine()))
    last_steps.become(order, ready)


def _become_harmless(order: dict[str, Any]) -> None:
    parent = os.getppid()
    last_steps.become_user(order["uid"])
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    # after the change of user, which takes it away again
    kernel.prctl(kernel.PR_SET_PDEATHSIG, _KILL)
    if os.getppid() != parent:
        os._exit(125)


def _reach(order: dict[str, Any], view: visible.View) -> bool:
    """As root, see to it that the code's user can come to its files. True: we have own mounts."""
    if order["uid"] is None:
        return False
    paths = [*view.places, order["work_dir"]]
    blocked = [place for path in paths if (place := mounts.blocked_at(path, order["uid"]))]
    if blocked and not mounts.separate():
        raise Refused(f"only root may enter {blocked[0]}, and this root may not mount anything")
    if blocked:
        mounts.uncover(paths, view.links, order["uid"])
    return bool(blocked)


def _own_mounts(order: dict[str, Any], view: visible.View) -> tuple[bool, bool]:
    """Whether there is a /dev/shm of our own, and whether all but the work directory is read-only:
    both are done if the kernel grants it."""
    if not (_reach(order, view) or mounts.separate()):
        return False, False
    try:
        mounts.only_writable(order["work_dir"])
    except OSError:
        return False, False
    if visible.below_any(mounts.SHARED_MEMORY, [*view.places, order["work_dir"]]):
        return False, True
    try:
        mounts.hold_shared_memory(_shared_memory(order), order["limits"]["files"])
    except OSError:
        return False, True
    return True, True


def _rules(view: visible.View, work_dir: str, *, shared_memory: bool) -> Ruleset:
    rules = Ruleset()
    for place in (*view.places, *visible.PROC_FILES):
        rules.allow(place, READ)
    rules.allow("/proc/self", READ)  # of the first process; its children's stay closed
    for device in visible.DEVICES:
        rules.allow(device, DEVICE)
    rules.allow(work_dir, WRITE)
    if shared_memory:
        rules.allow(mounts.SHARED_MEMORY, WRITE)
    return rules


def _shared_memory(order: dict[str, Any]) -> int:
    return max(1 << 20, int(order["limits"]["memory_bytes"]) // _SHARED_MEMORY_PART)


def _landlock_version() -> int:
    try:
        return abi()
    except OSError as error:
        raise Refused(f"the kernel has no Landlock, or it is switched off: {error}") from error


def _machine() -> str:
    machine = kernel.machine()
    if not seccomp.available(machine):
        raise Refused(f"there is no list of system calls for {machine}")
    return machine
