"""A small engine for the sandbox's tests: launches what its argument describes and tells how it
ended, as JSON lines. As root it can first become an ordinary user, who must then find a Python:
it may lie in a folder that only root may enter."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from cmbagent.sandbox import Jail, Limits, SandboxFailed, kernel, launch, mounts, seccomp, visible

PYTHON = str(Path(sys.executable).resolve())
CHECKOUT = str(Path(__file__).resolve().parents[2])


def make_reachable(uid: int) -> None:
    view = visible.View([*visible.of_interpreter(PYTHON), CHECKOUT])
    if any(mounts.blocked_at(place, uid) for place in view.places):
        assert mounts.separate()
        mounts.uncover(view.places, view.links, uid)


def become_user(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def do_without(calls: str) -> None:
    """Be on a kernel that grants us less: the named system calls are refused."""
    program = seccomp.Program(kernel.machine())
    program.answer(calls, seccomp.NOT_PERMITTED)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.install_filter(program.assemble())


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def run(job: dict[str, Any]) -> None:
    words = [word.replace("ENGINE", str(os.getpid())) for word in job["words"]]
    jail = Jail(job["level"], job["work_dir"], tuple(job["readable"]), job["uid"])
    read, write = os.pipe()
    launched = launch(
        job["argv"] or [PYTHON, "-I", "-S", "-c", job["code"], *words],
        jail=jail,
        limits=Limits(**job["limits"]),
        env=job["env"],
        stdout=write,
        stderr=write,
        cwd=job["work_dir"],
    )
    os.close(write)
    reader = threading.Thread(target=relay, args=(read, launched, job["stop_at"]))
    reader.start()
    try:
        ending = launched.wait()
        reader.join()
        say(ending=vars(ending))
    except SandboxFailed as error:
        reader.join()
        say(failed=str(error))


def relay(read: int, launched: Any, stop_at: str | None) -> None:
    with os.fdopen(read, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            say(line=line.rstrip("\n"))
            if line.rstrip("\n") == stop_at:
                launched.stop("stopped")


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    if os.geteuid() == 0 and (order["become"] or order["without"]):
        make_reachable(order["become"] or order["uid"])
    if order["become"] is not None:
        become_user(order["become"])
    if order["without"]:
        do_without(order["without"])
    run(order)
