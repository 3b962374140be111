"""Engines forked from the template: each as if it had been started afresh, and nothing shared."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cmbagent.forking import packet
from tests.cmbagent import templates
from tests.cmbagent.supervision import Supervisor
from tests.cmbagent.templates import PROBING, Ordered, Template, descriptors, status

Order = Callable[..., Ordered]


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    with templates.running(PROBING) as template:
        yield template


@pytest.fixture
def order(template: Template, work_dir: Path) -> Iterator[Order]:
    with contextlib.ExitStack() as orders:

        def one(**changes: object) -> Ordered:
            ordered = Ordered(template, work_dir, **changes)
            orders.callback(ordered.close)
            return ordered

        yield one


def lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return status(pid)["State"][0] not in "ZX"
    return False


def gone(pid: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while lives(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


# -- what a child is --------------------------------------------------------------------------
def test_it_leads_a_session_and_has_a_pid_that_its_pidfd_names(order: Order) -> None:
    ordered = order()
    assert ordered.born() == {"pid": ordered.pid}
    facts = ordered.facts()
    assert facts["leads"]
    assert facts["pid"] == ordered.pid
    assert not ordered.has_ended(0)


def test_it_has_the_five_descriptors_and_no_other(order: Order) -> None:
    order().born()  # others are open in the template now
    ordered = order()
    ordered.born()
    ordered.facts()
    found = descriptors(ordered.pid)
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert found[0] == "/dev/null"
    assert [found[number].partition(":")[0] for number in (1, 2, 3, 4)] == [
        *("pipe", "pipe", "socket", "pipe")
    ]
    assert found[1] == f"pipe:[{os.fstat(ordered.stdout).st_ino}]"
    assert found[2] == f"pipe:[{os.fstat(ordered.stderr).st_ino}]"


def test_its_environment_is_the_order_s_alone(order: Order, work_dir: Path) -> None:
    ordered = order(environment={"LANG": "C", "HOME": str(work_dir)})
    assert ordered.facts()["environment"] == {"LANG": "C", "HOME": str(work_dir)}


def test_it_stands_in_the_work_directory_and_its_zone(order: Order, work_dir: Path) -> None:
    facts = order().facts()
    assert Path(facts["cwd"]) == work_dir.resolve()
    assert facts["zone"] == "JST"


def test_no_two_have_the_same_randomness(order: Order) -> None:
    facts = [order().facts() for _ in range(10)]
    for number in (0, 1):
        assert len({told["random"][number] for told in facts}) == 10
    assert len({told["unpredictable"] for told in facts}) == 10


def test_its_signals_are_those_of_a_fresh_process(order: Order) -> None:
    facts = order().facts()
    assert facts["ignored"] == [signal.SIGPIPE, signal.SIGXFSZ]
    assert facts["default"]
    assert facts["blocked"] == 0


def test_it_has_one_thread_and_never_numpy(order: Order) -> None:
    facts = order().facts()
    assert facts["threads"] == 1
    assert not facts["numpy"]


def test_its_limits_and_mask_are_those_of_a_fresh_one(template: Template, work_dir: Path) -> None:
    with templates.running() as real:
        forked = Ordered(real, work_dir)
        forked.born()
        with Supervisor(work_dir) as fresh:
            wait_for_title(fresh.process.pid)
            wait_for_title(forked.pid)
            for name in ("limits", "cmdline"):
                both = [
                    Path(f"/proc/{p}/{name}").read_bytes() for p in (fresh.process.pid, forked.pid)
                ]
                assert both[0].rstrip(b"\0") == both[1].rstrip(b"\0"), name
            theirs, ours = status(fresh.process.pid), status(forked.pid)
            for name in ("Umask", "SigBlk", "Groups", "Uid", "CapEff", "NoNewPrivs"):
                assert theirs[name] == ours[name], name
            # a shell lets its background jobs ignore INT and QUIT: a fresh engine inherits that
            shell_s = 1 << signal.SIGINT - 1 | 1 << signal.SIGQUIT - 1
            assert int(theirs["SigIgn"], 16) & ~shell_s == int(ours["SigIgn"], 16) & ~shell_s
            numbers = [sorted(descriptors(p))[:5] for p in (fresh.process.pid, forked.pid)]
            assert numbers == [[0, 1, 2, 3, 4]] * 2
        forked.close()


def wait_for_title(pid: int) -> None:
    """Until the engine's loop handles signals: it is up."""
    deadline = time.monotonic() + 30
    while int(status(pid)["SigCgt"], 16) & (1 << (signal.SIGTERM - 1)) == 0:
        assert time.monotonic() < deadline, "it never came up"
        time.sleep(0.02)


def test_its_title_names_the_run_and_the_template_s_is_its_own(work_dir: Path) -> None:
    with templates.running() as real:
        ordered = Ordered(real, work_dir)
        ordered.born()
        wait_for_title(ordered.pid)
        titles = [
            Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
            for pid in (real.process.pid, ordered.pid)
        ]
        ordered.close()
    assert titles == ["cmbagent template", f"cmbagent engine {templates.RUN_ID}"]


# -- the end ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("word", "expected"), [("0", 0), ("7", 7), ("raise", 1)])
def test_its_exit_status_is_told(order: Order, word: str, expected: int) -> None:
    ordered = order()
    ordered.born()
    ordered.tell(word)
    assert ordered.ended() == {"status": expected, "strangers": 0}


def test_the_signal_that_ended_it_is_told(order: Order) -> None:
    ordered = order()
    ordered.born()
    os.kill(ordered.pid, signal.SIGTERM)
    assert ordered.ended()["status"] == -signal.SIGTERM


def test_what_it_raised_is_on_its_console(order: Order) -> None:
    ordered = order()
    ordered.born()
    ordered.tell("raise")
    assert ordered.ended()["status"] == 1
    assert b"ValueError: as told" in os.read(ordered.stderr, 1 << 16)


def test_its_number_is_kept_until_the_supervisor_lets_go(order: Order, template: Template) -> None:
    ordered = order()
    ordered.born()
    ordered.tell("0")
    ordered.ended()
    time.sleep(1.2)  # more than one round of the template
    assert not ordered.is_reaped()
    ordered.connection.close()
    deadline = time.monotonic() + 5
    while not ordered.is_reaped():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("busy", ["", "hold the interpreter"])
def test_a_supervisor_that_died_takes_it_along(order: Order, busy: str) -> None:
    ordered = order()
    ordered.born()
    ordered.facts()
    if busy:
        ordered.tell(busy)
    ordered.connection.close()
    assert ordered.has_ended(5)


@pytest.mark.parametrize("busy", ["", "hold the interpreter"])
def test_a_cut_lifeline_ends_it(order: Order, busy: str) -> None:
    ordered = order()
    ordered.born()
    ordered.facts()
    if busy:
        ordered.tell(busy)
    ordered.cut_lifeline()
    assert ordered.ended()["status"] == -signal.SIGKILL


def test_who_left_at_once_leaves_nothing(template: Template, work_dir: Path) -> None:
    ordered = Ordered(template, work_dir)
    pid = ordered.born()["pid"]
    ordered.close()
    assert gone(pid)


def test_a_stranger_is_killed_when_its_engine_ended(order: Order) -> None:
    ordered = order()
    ordered.born()
    ordered.facts()
    ordered.tell("leave a stranger")
    assert ordered.ended() == {"status": 0, "strangers": 1}


# -- the template -----------------------------------------------------------------------------
def test_a_hundred_at_once(order: Order, template: Template) -> None:
    ordered = [order() for _ in range(100)]
    pids = {one.born()["pid"] for one in ordered}
    assert len(pids) == 100
    assert len({one.facts()["random"][0] for one in ordered}) == 100
    for one in ordered:
        one.tell("3")
    assert [one.ended()["status"] for one in ordered] == [3] * 100
    for one in ordered:
        one.connection.close()
    deadline = time.monotonic() + 10
    while len(descriptors(template.process.pid)) > 8:  # its own, and the selector's
        assert time.monotonic() < deadline, "the template keeps descriptors"
        time.sleep(0.05)


def test_it_answers_who_only_asks(template: Template) -> None:
    with template.connect() as connection:
        connection.send(packet({"build": template.build, "run_id": ""}))
        assert connection.recv(100) == b'{"pid":0}'


@pytest.mark.parametrize("words", [b"", b"garbage", b"[]", b"{}", b"null"])
def test_it_survives_who_does_not_know_the_words(
    template: Template, order: Order, words: bytes
) -> None:
    with template.connect() as connection:
        connection.send(words)
        assert connection.recv(100) == b""
    assert order().born()["pid"]


FEW_DESCRIPTORS = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
runpy.run_module("tests.cmbagent.probing_template", run_name="__main__")
"""


def test_with_few_descriptors_it_refuses_and_lives(work_dir: Path) -> None:
    """As many engines as it can look after; one more when one of them has gone."""
    with templates.running(("-c", FEW_DESCRIPTORS)) as template:
        ordered = [Ordered(template, work_dir) for _ in range(8)]
        for one in ordered:
            one.born()
            one.facts()
        for _ in range(60):
            with template.connect() as refused:
                assert b"as many engines as it can" in refused.recv(1000)
        ordered[0].tell("3")
        assert ordered[0].ended()["status"] == 3
        ordered[0].close()
        assert [template.word() for _ in range(9)][-1] == -ordered[0].pid

        ordered[0] = Ordered(template, work_dir)
        assert ordered[0].born()["pid"]

        silent = [template.connect() for _ in range(60)]  # who does not say what they want
        assert template.process.poll() is None
        for connection in silent:
            connection.close()
        for one in ordered:
            one.close()


def test_its_roster_names_who_lives() -> None:
    with templates.running(PROBING) as template, tempfile.TemporaryDirectory() as folder:
        ordered = Ordered(template, Path(folder))
        pid = ordered.born()["pid"]
        assert template.word() == pid
        ordered.close()
        assert template.word() == -pid


def test_killed_it_leaves_its_engines_alive(work_dir: Path) -> None:
    with templates.running(PROBING) as template:
        ordered = [Ordered(template, work_dir) for _ in range(3)]
        for one in ordered:
            one.born()
            one.facts()
        template.process.kill()
        template.process.wait()
        assert [one.has_ended(0.3) for one in ordered] == [False] * 3
        for one in ordered:
            one.tell("0")
            assert one.has_ended()
            one.close()


def test_without_its_host_it_ends(tmp_path: Path) -> None:
    template = Template(tmp_path, PROBING)
    assert template.word() == 0
    reader, template.roster = template.roster, os.dup(0)
    os.close(reader)
    assert template.process.wait(5) == 0
    template.end()


def test_an_order_for_another_build_is_refused_and_it_ends(work_dir: Path) -> None:
    with templates.running(PROBING) as template:
        ordered = Ordered(template, work_dir, build="another")
        assert template.build in ordered.born()["refused"]
        assert template.process.wait(10) == 1
        ordered.close()


def test_with_another_source_than_its_host_knows_it_does_not_serve(tmp_path: Path) -> None:
    template = Template(tmp_path, PROBING, build="another")
    assert template.word() is None
    assert "source has changed" in template.end()
