"""The process between the engine and executed code: starts it confined, watches it, ends it.

Started by `launching.launch` with three pipe ends as arguments: orders (what to run, later a reason
to stop), the lifeline (its other end closes when the engine dies) and the report.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import sys

from cmbagent.sandbox import (
    confinement,
    kernel,
    last_steps,
    lifeline,
    rights,
    scratch,
    tree,
    visible,
)
from cmbagent.sandbox.watch import TICK_S, Watch

TYPE_CHECKING = False  # the type checker knows this name; importing it would take too long
if TYPE_CHECKING:
    from typing import Any, NoReturn

NOBODY = 65534
_INVALID = 22  # EINVAL: a user namespace around us does not know that user
_LEVELS = {1: confinement.contain, 2: confinement.confine, 3: confinement.restrict}
_XCPU, _XFSZ = 24, 25
_OPEN_FILES = 512  # each can be a socket whose buffer is memory of the kernel's
_PINNED = visible.PROC_FILES


def main() -> None:
    orders, pulse, report = map(int, sys.argv[1:4])
    for descriptor in (orders, pulse, report):
        os.set_inheritable(descriptor, False)
    os.umask(0o022)  # the folders that lead to the code's places are for its user
    lifeline.arm(pulse, os.getpgrp())
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    order = marshal.loads(_read_all(orders))  # noqa: S302  # our own engine wrote it
    try:
        _Launch(order, orders, pulse, report).run()
    except Exception as error:  # noqa: BLE001  # a process edge: the engine hears what it was
        _tell(report, f"failed {error}")


def _read_all(orders: int) -> bytes:
    """The first order: its length in eight bytes, then itself."""
    return _read_exactly(orders, int.from_bytes(_read_exactly(orders, 8), "big"))


def _read_exactly(descriptor: int, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += os.read(descriptor, size - len(content)) or sys.exit(0)  # the engine is gone
    return content


def _tell(report: int, line: str) -> None:
    os.write(report, f"{' '.join(line.split())}\n".encode())


class _Launch:
    def __init__(self, order: dict[str, Any], orders: int, pulse: int, report: int) -> None:
        self._order, self._orders, self._pulse, self._report = order, orders, pulse, report
        self._view = confinement.view_of(order)
        self._work_dir = rights.open_folder(order["work_dir"])
        self._leader = 0

    def run(self) -> None:
        self._prepare()
        watch = Watch(self._order["limits"], self._work_dir)
        ready = self._start()
        ended_by = self._watch(watch)
        how = self._how_it_ended(watch, ended_by)
        tree.end(self._leader)
        duration = watch.seconds()
        rights.make_ordinary(self._work_dir)
        scratch.remove(self._work_dir)
        _tell(self._report, self._failure(ready) or f"ended {how} {duration:.3f}")

    def _prepare(self) -> None:
        order = self._order
        order["uid"] = self._settle_user(order["uid"])
        rights.make_ordinary(self._work_dir)
        scratch.make(self._work_dir, "matplotlib", owner=order["uid"])
        temporary = f"{order['work_dir']}/{scratch.NAME}"
        order["env"] = {"MPLCONFIGDIR": f"{temporary}/matplotlib"} | order["env"]
        order["env"]["TMPDIR"] = temporary
        order["rlimits"] = _kernel_limits(order["limits"], order["uid"])

    def _settle_user(self, uid: int | None) -> int | None:
        """Who runs the code and owns the work directory; None: we are no root, it is ourselves."""
        if os.geteuid() != 0:
            return None
        for candidate in (uid or NOBODY, NOBODY):
            try:
                os.fchown(self._work_dir, candidate, candidate)
            except OSError as error:
                if error.errno != _INVALID or candidate == NOBODY:
                    raise
            else:
                return candidate
        return None

    def _start(self) -> int:
        """The leader of a new group; it waits until that group's lifeline is armed."""
        # the rules of level 2 hold for these very entries, which the kernel could forget
        self._pins = [os.open(name, os.O_PATH) for name in filter(os.path.exists, _PINNED)]
        gate, open_gate = os.pipe()
        told, tell = os.pipe()
        self._leader = os.fork()
        if self._leader == 0:
            os.close(open_gate)
            self._become_code(gate, tell)
        os.close(tell)
        os.setpgid(self._leader, self._leader)
        lifeline.arm(lifeline.another_end(self._pulse), self._leader)
        _tell(self._report, f"group {self._leader}")
        self._let_go_of_output()
        os.write(open_gate, b"!")
        return told

    def _become_code(self, gate: int, tell: int) -> NoReturn:
        try:
            if os.read(gate, 1):
                _LEVELS[self._order["level"]](self._order, self._view, tell)
        except BaseException as error:  # noqa: BLE001  # a process edge: nothing may go up from here
            os.write(tell, f"{error}".encode())
        os._exit(125)

    def _let_go_of_output(self) -> None:
        """The engine sees the end of the code's output when the code has ended."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.close(nothing)

    def _watch(self, watch: Watch) -> str | None:
        """Why the tree is to be killed; None: the leader has ended by itself."""
        poller = self._poller()
        while True:
            poller.poll(TICK_S * 1000)
            if _has_input(self._orders):
                return os.read(self._orders, 64).decode().partition("\n")[0] or "stopped"
            if _status(self._leader):
                return None
            if passed := watch.passed():
                return passed
            tree.reap(besides=self._leader)

    def _poller(self) -> select.poll:
        poller = select.poll()
        poller.register(self._orders, select.POLLIN)
        with contextlib.suppress(OSError):  # before Linux 5.3: the next tick sees it
            poller.register(os.pidfd_open(self._leader), select.POLLIN)
        return poller

    def _how_it_ended(self, watch: Watch, ended_by: str | None) -> str:
        """Exit code, signal and reason, as a line of the report."""
        status = _status(self._leader)
        if ended_by or not status:
            return f"- 9 {ended_by or 'stopped'}"
        killed, number = status.si_code != os.CLD_EXITED, status.si_status
        if self._order["level"] == 1 and not killed and number > 128:  # so says bubblewrap
            killed, number = True, number - 128
        if not killed:
            return f"{number} - exit"
        return f"- {number} {_reason_of_signal(number, watch)}"

    def _failure(self, told: int) -> str | None:
        """The report, if the code never began."""
        words = _read_rest(told)
        if words == last_steps.READY:
            return None
        reason = words.removeprefix(last_steps.READY).decode(errors="replace")
        return f"failed {reason or 'it ended before the code began'}"


def _has_input(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def _status(pid: int) -> os.waitid_result | None:
    """How our child ended, without burying it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)


def _reason_of_signal(number: int, watch: Watch) -> str:
    if number == _XCPU or (number == tree.KILL and watch.cpu_passed({})):
        return "cpu_limit"
    return "disk_limit" if number == _XFSZ else "signal"


def _read_rest(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b""


def _kernel_limits(limits: dict[str, int], uid: int | None) -> dict[str, int]:
    """What the kernel keeps for each process, or for the user; Watch keeps the sums."""
    # The kernel counts all tasks of the user, also those of another execution and zombies that
    # their new parent is slow to bury: none of them is at the cost of this one.
    processes = limits["processes"] + tree.tasks_of_user(os.geteuid() if uid is None else uid)
    if uid is None:  # the server's user starts others meanwhile
        processes += limits["processes"]
    return {
        "CPU": limits["cpu_s"] + 1,  # Watch comes first, and can say why
        "AS": limits["memory_bytes"],
        "DATA": limits["memory_bytes"],  # the engine's own is lower
        "FSIZE": limits["file_bytes"],
        "NPROC": processes,
        "NOFILE": _OPEN_FILES,
        "CORE": 0,
    }
