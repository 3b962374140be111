"""Code that takes more than its share, in every level, under an engine that is root and one that
is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cmbagent.sandbox_cases import CASES, CONFINED, SMALL, Case, Result, every, place, run

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Greed:
    code: str
    limits: dict[str, int]


FORKS = """
import os, time
made = refused = 0
for _ in range(300):
    try:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        made += 1
    except OSError:
        refused += 1
print(f'{{"made": {made}, "refused": {refused}}}', flush=True)
time.sleep(30 if not refused else 0)
"""
UNBURIED = """
import os, sys
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        os.setresuid(*[int(sys.argv[1])] * 3)
        os._exit(0)
for pid in open(f'/proc/self/task/{os.getpid()}/children').read().split():
    os.waitid(os.P_PID, int(pid), os.WEXITED | os.WNOWAIT)
print('ended', flush=True)
sys.stdin.read()
"""
SOCKETS = """
import os, socket, time
for _ in range(4):
    if os.fork() == 0:
        break
pairs = []
try:
    while True:
        pairs.append(socket.socketpair())
        pairs[-1][0].setblocking(False)
        while True:
            try:
                pairs[-1][0].send(bytes(65536))
            except BlockingIOError:
                break
except OSError:
    time.sleep(30)
"""
TCP = """
import os, socket, time
for _ in range(4):
    if os.fork() == 0:
        break
server = socket.create_server(("127.0.0.1", 0))
kept = []
for _ in range(100):
    client = socket.create_connection(server.getsockname())
    kept += [client, server.accept()[0]]
    client.setblocking(False)
    try:
        while True:
            client.send(bytes(65536))
    except BlockingIOError:
        pass
time.sleep(30)
"""
FILES_IN_MEMORY = """
import time
for number in range(300):
    open(f"/dev/shm/{number}" if number % 2 else f"/tmp/{number}", "w").close()
time.sleep(30)
"""
UNWAITED = """
import contextlib, os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(10):
    if os.fork() == 0:
        while time.process_time() < 0.5:
            pass
        os._exit(0)
    with contextlib.suppress(ChildProcessError):
        os.wait()  # ends with it, and counts nothing
time.sleep(30)
"""
GREED = {
    "one_process_memory": Greed(
        "try:\n  bytearray(2 << 30)\nexcept MemoryError:\n  print('{\"refused\": true}')", {}
    ),
    "many_processes_memory": Greed(
        "import os, time\n"
        "for _ in range(6):\n"
        "  if os.fork() == 0:\n"
        "    hoard = os.urandom(1 << 20) * 100\n"
        "    time.sleep(30)\n"
        "time.sleep(30)",
        {"memory_bytes": 400 * MEGABYTE},
    ),
    "shared_memory_counted_once": Greed(
        "import os, time\n"
        "hoard = os.urandom(1 << 20) * 150\n"
        "for _ in range(6):\n"
        "  if os.fork() == 0:\n"
        "    time.sleep(1.5)\n"
        "    os._exit(0)\n"
        "for _ in range(6):\n"
        "  os.wait()",
        {"memory_bytes": 400 * MEGABYTE},
    ),
    "processor": Greed("while True: pass", {"cpu_s": 1}),
    "processor_of_many": Greed(
        "import os\nfor _ in range(3):\n  if os.fork() == 0:\n    break\nwhile True: pass",
        {"cpu_s": 2},
    ),
    "time": Greed("import time\ntime.sleep(60)", {"wall_s": 1}),
    "one_file": Greed(
        "try:\n  open('big', 'wb').write(bytes(16 << 20))\n"
        "except OSError as error:\n  print('{\"refused\": true}')",
        {},
    ),
    "many_big_files": Greed(
        "import time\n"
        "for number in range(5):\n"
        "  open(f'big{number}', 'wb').write(bytes(7 << 20))\n"
        "time.sleep(30)",
        {},
    ),
    "big_files_without_a_name": Greed(
        "import os, time\n"
        "kept = []\n"
        "for number in range(5):\n"
        "  kept.append(open('big', 'wb', buffering=0))\n"
        "  kept[-1].write(bytes(7 << 20))\n"
        "  os.unlink('big')\n"
        "time.sleep(30)",
        {},
    ),
    "many_files": Greed(
        "import time\nfor number in range(250): open(f'{number}', 'w').close()\ntime.sleep(30)", {}
    ),
    "deep_folders": Greed(
        "import os, time\nfor _ in range(150):\n  os.mkdir('d')\n  os.chdir('d')\ntime.sleep(30)",
        {"files": 100_000},
    ),
    "closed_folder": Greed(
        "import os, time\n"
        "os.makedirs('h/inner')\n"
        "for number in range(5):\n"
        "  open(f'h/inner/big{number}', 'wb').write(bytes(7 << 20))\n"
        "os.chmod('h/inner', 0o400)\n"
        "os.chmod('h', 0)\n"
        "time.sleep(30)",
        {},
    ),
    "files_in_memory": Greed(FILES_IN_MEMORY, {}),
    "memory_of_tcp": Greed(TCP, {"memory_bytes": 256 * MEGABYTE}),
    "memory_of_sockets": Greed(SOCKETS, {"memory_bytes": 256 * MEGABYTE}),
    "processor_of_the_unwaited_for": Greed(UNWAITED, {"cpu_s": 2}),
    "forks": Greed(FORKS, {}),
}
EXPECTED = {
    "many_processes_memory": "memory_limit",
    "processor": "cpu_limit",
    "processor_of_many": "cpu_limit",
    "time": "time_limit",
    "many_big_files": "disk_limit",
    "big_files_without_a_name": "disk_limit",
    "many_files": "disk_limit",
    "deep_folders": "disk_limit",
    "closed_folder": "disk_limit",
    "files_in_memory": "disk_limit",
    "memory_of_sockets": "memory_limit",
    "memory_of_tcp": "memory_limit",
    "processor_of_the_unwaited_for": "cpu_limit",
}
# one watch serves all levels: where these are not tried, only what a level changes for it is
IN_LEVEL_2_ONLY = {"processor", "many_big_files", "many_files", "deep_folders"}
IN_LEVEL_2_ONLY |= {"shared_memory_counted_once", "processor_of_the_unwaited_for"}
IN_LEVEL_1_ONLY = {"files_in_memory", "memory_of_tcp"}  # others have no such thing
LEVEL_1 = [case for case in CASES if case.level == 1]
LEVEL_2 = [case for case in CASES if case.level == 2]


@pytest.fixture(scope="module")
def results(case: Case) -> Iterator[dict[str, Result]]:
    """All of them at once, three at a time: most of their time they wait to be noticed."""
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:

        def indulge(greed: Greed) -> Result:
            work = stack.enter_context(place(case)).work
            changes: dict[str, Any] = greed.limits
            return run(case, work, greed.code, **changes)

        elsewhere = {1: IN_LEVEL_2_ONLY, 2: IN_LEVEL_1_ONLY}.get(
            case.level, IN_LEVEL_1_ONLY | IN_LEVEL_2_ONLY
        )
        tried = [name for name in GREED if name not in {"forks", *elsewhere}]
        done = dict(zip(tried, pool.map(indulge, map(GREED.__getitem__, tried)), strict=True))
        # alone: it would take the others' processes, which are of the same user
        yield done | {"forks": indulge(GREED["forks"])}


@every(CASES)
@pytest.mark.parametrize("greed", sorted(EXPECTED.keys() - IN_LEVEL_2_ONLY - IN_LEVEL_1_ONLY))
def test_the_tree_is_killed_and_the_reason_told(results: dict[str, Result], greed: str) -> None:
    assert_killed(results, greed)


@every(LEVEL_2)
@pytest.mark.parametrize("greed", sorted(EXPECTED.keys() & IN_LEVEL_2_ONLY))
def test_so_it_is_for_every_limit(results: dict[str, Result], greed: str) -> None:
    assert_killed(results, greed)


@every(LEVEL_1)
@pytest.mark.parametrize("greed", sorted(IN_LEVEL_1_ONLY))
def test_so_it_is_for_what_only_level_1_has(results: dict[str, Result], greed: str) -> None:
    assert_killed(results, greed)


def assert_killed(results: dict[str, Result], greed: str) -> None:
    ending = results[greed].ending
    assert ending is not None, results[greed]
    assert (ending.ended_by, ending.exit_code, ending.signal) == (EXPECTED[greed], None, 9)
    assert ending.duration_s < 14


@every(CASES)
@pytest.mark.parametrize("greed", ["one_process_memory", "one_file"])
def test_the_kernel_refuses(results: dict[str, Result], greed: str) -> None:
    assert results[greed].answers() == {"refused": True}


@every(LEVEL_2)
def test_memory_that_processes_share_counts_once(results: dict[str, Result]) -> None:
    ending = results["shared_memory_counted_once"].ending
    assert ending is not None
    assert (ending.ended_by, ending.exit_code) == ("exit", 0)


@every(CASES)
def test_a_fork_bomb_is_stopped(case: Case, results: dict[str, Result]) -> None:
    result = results["forks"]
    if case.root:  # a user of its own: the kernel refuses the very fork that is too many
        assert result.answers()["made"] < SMALL["processes"]
        assert result.answers()["refused"] > 0
    else:  # the user has other processes: the kernel's limit is looser, and the watch is exact
        assert result.ending is not None
        assert result.ending.ended_by == "process_limit" or result.answers()["refused"] > 0


@contextmanager
def unburied(uid: int, count: int) -> Iterator[None]:
    """Ended processes of that user whose parent does not bury them; the kernel counts them."""
    words = [sys.executable, "-I", "-S", "-c", UNBURIED, str(uid), str(count)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ended\n"
        yield
        parent.stdin.close()


@every([case for case in CONFINED if case.root])
def test_what_another_process_has_not_buried_takes_nothing_from_the_code(case: Case) -> None:
    with unburied(case.code_user, SMALL["processes"]), place(case) as found:
        result = run(case, found.work, FORKS)
    assert 0 < result.answers()["made"] < SMALL["processes"]
    assert result.answers()["refused"] > 0
