"""An engine begins fast, and ends with its supervisor, on request, and when it is done."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from pathlib import Path

import pytest

from cmbagent import wire
from tests.cmbagent import templates
from tests.cmbagent.supervision import (
    RUN_ID,
    Supervisor,
    fenced,
    gone,
    processes_of_session,
    run,
    start_message,
)
from tests.cmbagent.templates import Ordered

SLEEPER = "print('asleep', flush=True)\nimport time\ntime.sleep(600)"
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPER
PARENT = "import subprocess\nsubprocess.Popen(['sleep', '600'])\n" + SLEEPER


def asleep(supervisor: Supervisor, code: str) -> None:
    supervisor.send(start_message(supervisor.work_dir, fenced(code)))
    supervisor.until_printed(b"asleep")


def test_it_hands_over_its_outcome_and_exits_0(work_dir: Path) -> None:
    with Supervisor(work_dir) as supervisor:
        supervisor.send(start_message(work_dir, fenced("print(1)")))
        assert supervisor.until_the_end().outcome["kind"] == "completed"
        assert supervisor.process.returncode == 0
        assert gone(supervisor.process.pid)


def test_a_failed_run_is_an_outcome_too(work_dir: Path) -> None:
    with Supervisor(work_dir) as supervisor:
        supervisor.send(start_message(work_dir, "", mode="seance"))
        assert supervisor.until_the_end().error["error_type"] == "mode_unknown"
        assert supervisor.process.returncode == 0


def test_forked_it_computes_for_no_tenth_of_a_second_to_the_first_message(work_dir: Path) -> None:
    with templates.running() as template:
        engine = Ordered(template, work_dir)
        engine.born()
        engine.tell(wire.encode(start_message(work_dir, "nothing")).decode().strip())
        while '"t":"log"' in engine.lines.readline():
            pass
        ran = int(Path(f"/proc/{engine.pid}/schedstat").read_text().split()[0])
        engine.close()
    assert ran / 1e9 < 0.1  # the processor's time: the clock would count the others


def test_its_title_names_the_run(work_dir: Path) -> None:
    with Supervisor(work_dir) as supervisor:
        asleep(supervisor, SLEEPER)
        title = Path(f"/proc/{supervisor.process.pid}/cmdline").read_bytes()
    assert title.rstrip(b"\0").decode() == f"cmbagent engine {RUN_ID}"


def test_its_memory_is_bounded_and_that_of_code_by_another_limit(work_dir: Path) -> None:
    more = 5 * 2**30  # than the engine may have; nothing touches it
    large = f"import mmap\nmmap.mmap(-1, {more}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
    with Supervisor(work_dir) as supervisor:
        asleep(supervisor, large + SLEEPER)
        limits = resource.prlimit(supervisor.process.pid, resource.RLIMIT_DATA)
    assert limits == (4 * 2**30, resource.getrlimit(resource.RLIMIT_DATA)[1])


@pytest.mark.parametrize("code", [SLEEPER, STUBBORN, PARENT])
def test_a_cut_lifeline_ends_everything(work_dir: Path, code: str) -> None:
    with Supervisor(work_dir) as supervisor:
        asleep(supervisor, code)
        supervisor.cut_lifeline()
        assert supervisor.process.wait(10) == -signal.SIGKILL
        assert gone(supervisor.process.pid)


def test_a_lifeline_that_was_cut_before_it_began_ends_it(work_dir: Path) -> None:
    with Supervisor(work_dir) as supervisor:
        supervisor.cut_lifeline()
        assert supervisor.process.wait(10) == -signal.SIGKILL


def test_without_a_channel_there_is_no_run(work_dir: Path) -> None:
    with Supervisor(work_dir) as supervisor:
        asleep(supervisor, PARENT)
        supervisor.channel.shutdown(socket.SHUT_RDWR)
        assert supervisor.process.wait(10) == -signal.SIGKILL
        assert gone(supervisor.process.pid)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("code", [SLEEPER, STUBBORN, PARENT])
def test_a_signal_stops_it_and_what_it_executes(
    work_dir: Path, code: str, signum: signal.Signals
) -> None:
    with Supervisor(work_dir) as supervisor:
        asleep(supervisor, code)
        os.killpg(supervisor.process.pid, signum)
        assert supervisor.process.wait(10) == 128 + signum
        assert gone(supervisor.process.pid)
        assert "outcome" not in supervisor.heard.kinds()


def test_a_signal_before_the_start_message_ends_it(work_dir: Path) -> None:
    with Supervisor(work_dir) as supervisor:
        time.sleep(0.5)
        supervisor.process.terminate()
        assert supervisor.process.wait(10) in {143, -signal.SIGTERM}


def test_killed_it_leaves_nothing_behind(work_dir: Path) -> None:
    with Supervisor(work_dir) as supervisor:
        asleep(supervisor, PARENT)
        assert len(processes_of_session(supervisor.process.pid)) >= 3
        supervisor.process.kill()
        supervisor.process.wait(10)
        assert gone(supervisor.process.pid)


def test_it_imports_nothing_from_the_work_directory(work_dir: Path) -> None:
    for name in ("asyncio.py", "json.py", "sitecustomize.py", "numpy.py"):
        (work_dir / name).write_text("raise SystemExit('imported from the work directory')")
    assert run(work_dir, fenced("import json, numpy")).outcome["kind"] == "completed"


def test_a_defect_of_ours_is_a_sentence_for_people_and_a_line_in_the_log(work_dir: Path) -> None:
    heard = run(work_dir, fenced("print(1)"), limits={"no_such_limit": 1})
    assert heard.error["error_type"] == "internal_error"
    assert "Traceback" not in heard.error["message"]
    logs = [message for message in heard.messages if message["t"] == "log"]
    (log,) = [message for message in logs if message["event"] == "engine_failed"]
    assert "no_such_limit" in log["fields"]["traceback"]
    assert heard.stderr == b""
