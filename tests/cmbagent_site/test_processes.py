"""One parent, its children: who dies is back, and the parent's end is everybody's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cmbagent_site.processes import Children, Program

# A parent as `manage.py serve` is one. It writes a line for each thing it did.
PARENT = """
import signal, sys, time
from pathlib import Path
from cmbagent_site.processes import Children, Program

programs = tuple(
    Program(name, (sys.executable, "-c", code), kept=name != "once")
    for name, code in zip(sys.argv[1::2], sys.argv[2::2])
)
children = Children(programs, Path.cwd())
children.adopt_orphans()
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
while not asked:
    children.watch()
    time.sleep(0.02)
children.stop(1.0)
"""
# Children announce themselves by a file: NAME.PID
SLEEP = "import os, time; open(f'{NAME}.{os.getpid()}', 'w'); time.sleep(600)"
SHORT = SLEEP.replace("600", "0")
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
# its grandchild is in a session of its own and nobody's child: whose parent left at once
ORPHAN = "import os; os.fork() and os._exit(0); os.setsid(); " + SLEEP.replace("{NAME}", "orphan")
MOTHER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ORPHAN!r}]); " + SLEEP


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Family:
    """A parent with children in a folder of its own."""

    def __init__(self, folder: Path, **codes: str) -> None:
        self.folder = folder
        words = [word for name, code in codes.items() for word in (name, _named(name, code))]
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def pids(self, name: str) -> list[int]:
        """Everybody who ever announced themselves under this name."""
        return [int(path.suffix[1:]) for path in self.folder.glob(f"{name}.*")]

    def living(self, name: str) -> list[int]:
        """Those of them that still are."""
        return [pid for pid in self.pids(name) if is_alive(pid)]

    def wait_for(self, name: str, starts: int = 1) -> int:
        eventually(lambda: len(self.pids(name)) == starts and len(self.living(name)) == 1)
        return self.living(name)[0]

    def end(self) -> None:
        if self.parent.poll() is None:
            self.parent.kill()
            self.parent.wait()
        for path in self.folder.glob("*.[0-9]*"):
            if is_alive(pid := int(path.suffix[1:])):
                os.kill(pid, signal.SIGKILL)


def _named(name: str, code: str) -> str:
    return code.replace("{NAME}", name)


FamilyMaker = Callable[..., Family]


@pytest.fixture
def family(tmp_path: Path) -> Iterator[FamilyMaker]:
    made: list[Family] = []

    def make(**codes: str) -> Family:
        made.append(Family(tmp_path, **codes))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_a_killed_child_is_back_and_the_others_go_on(family: FamilyMaker) -> None:
    us = family(web=SLEEP, worker=SLEEP)
    web, worker = us.wait_for("web"), us.wait_for("worker")
    os.kill(web, signal.SIGKILL)
    us.wait_for("web", starts=2)
    assert us.living("worker") == [worker]


def test_a_child_that_keeps_dying_is_tried_again_but_not_in_a_frenzy(family: FamilyMaker) -> None:
    us = family(broken=SHORT, worker=SLEEP)
    us.wait_for("worker")
    time.sleep(2.5)  # 0, +0.5, +1, +2
    assert 2 <= len(us.pids("broken")) <= 4
    assert us.living("worker")


def test_one_that_is_not_kept_ends_for_good(family: FamilyMaker) -> None:
    us = family(once=SHORT, worker=SLEEP)
    us.wait_for("worker")
    eventually(lambda: len(us.pids("once")) == 1)
    time.sleep(0.3)
    assert len(us.pids("once")) == 1


def test_asked_to_end_all_end_also_the_deaf_and_the_runaways(family: FamilyMaker) -> None:
    us = family(deaf=DEAF, mother=MOTHER)
    for name in ("deaf", "mother", "orphan"):
        us.wait_for(name)
    us.parent.send_signal(signal.SIGTERM)
    assert us.parent.wait(10) == 0
    assert us.living("deaf") == us.living("mother") == us.living("orphan") == []


def test_kill_9_of_the_parent_takes_the_children(family: FamilyMaker) -> None:
    us = family(web=SLEEP, deaf=DEAF)
    for name in ("web", "deaf"):
        us.wait_for(name)
    us.parent.kill()
    eventually(lambda: not us.living("web") and not us.living("deaf"))


def test_who_lost_their_parent_is_ended(family: FamilyMaker) -> None:
    us = family(mother=MOTHER)
    orphan, mother = us.wait_for("orphan"), us.wait_for("mother")
    os.kill(mother, signal.SIGKILL)
    eventually(lambda: not is_alive(orphan))
    us.wait_for("mother", starts=2)


def test_ctrl_c_in_a_terminal_reaches_the_parent_alone(family: FamilyMaker) -> None:
    us = family(web=SLEEP)
    assert os.getsid(us.wait_for("web")) != os.getsid(us.parent.pid)


def test_nothing_to_stop_is_stopped_at_once(tmp_path: Path) -> None:
    children = Children((Program("never", (sys.executable, "-c", "")),), tmp_path)
    began = time.monotonic()
    children.stop(30)
    assert time.monotonic() - began < 5
