"""Engines started both ways, by a template that the worker host keeps and by themselves."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.test import override_settings
from pytest_django import Settings
from structlog.testing import capture_logs

from cmbagent import wire
from execution_app import template_keeper
from execution_app.engine_process import EngineProcess, engine_environment, proxies
from execution_app.engine_starts import TEMPLATE_BUILD
from execution_app.process_tree import children_of, tree_members
from execution_app.template_keeper import TemplateKeeper
from tests.cmbagent.supervision import RUN_ID, start_message
from tests.cmbagent.templates import descriptors, status

SECRET = "sk-" + os.urandom(16).hex()
PR_SET_CHILD_SUBREAPER = 36


def watch_until(keeper: TemplateKeeper, look: Callable[[], object], within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not look():
        assert time.monotonic() < deadline, "it did not come"
        keeper.watch()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Deeper than a socket's address may be long."""
    with tempfile.TemporaryDirectory(prefix="cmbagent-keeper-") as folder:
        yield Path(folder, *(["a-folder-with-a-long-name"] * 8))


@pytest.fixture(scope="module")
def shared_keeper(folder: Path) -> Iterator[TemplateKeeper]:
    os.environ["OPENAI_API_KEY"] = SECRET
    with override_settings(RUNTIME_DIR=folder):
        keeper = TemplateKeeper()
        try:
            watch_until(keeper, lambda: keeper.is_ready)
            yield keeper
        finally:
            del os.environ["OPENAI_API_KEY"]
            keeper.stop()


@pytest.fixture
def keeper(shared_keeper: TemplateKeeper, folder: Path, settings: Settings) -> TemplateKeeper:
    settings.RUNTIME_DIR = folder
    shared_keeper.watch()
    watch_until(shared_keeper, lambda: shared_keeper.is_ready)  # what a test before killed
    return shared_keeper


@pytest.fixture(params=["forked", "fresh"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "forked":
        request.getfixturevalue("keeper")
    else:
        monkeypatch.delenv(TEMPLATE_BUILD, raising=False)
    return str(request.param)


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def start(work_dir: Path) -> Iterator[Callable[[], EngineProcess]]:
    started: list[EngineProcess] = []

    def one() -> EngineProcess:
        started.append(EngineProcess(RUN_ID, work_dir, engine_environment(work_dir)))
        return started[-1]

    yield one
    for engine in started:
        engine.stop(gently=False)
        engine.close()


def wait_until_up(engine: EngineProcess) -> None:
    """Until its loop handles SIGTERM."""
    deadline = time.monotonic() + 30
    while int(status(engine.pid)["SigCgt"], 16) & (1 << (signal.SIGTERM - 1)) == 0:
        assert time.monotonic() < deadline, "it never came up"
        time.sleep(0.02)


def read_message(engine: EngineProcess, lines: wire.Lines, within: float = 60) -> dict[str, object]:
    """The next that is no line of a log."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if select.select([engine.channel], [], [], 1.0)[0]:
            for line in lines.feed(engine.channel.recv(1 << 16)):
                message = wire.decode(line)
                if message["t"] != "log":
                    return message
    raise AssertionError("no message came")


def state(pid: int) -> str:
    return status(pid)["State"][0]


# -- both ways --------------------------------------------------------------------------------
def test_it_is_an_engine_of_this_run(way: str, start: Callable[[], EngineProcess]) -> None:
    engine = start()
    wait_until_up(engine)
    assert engine.is_forked == (way == "forked")
    assert Path(f"/proc/{engine.pid}/cmdline").read_bytes().rstrip(b"\0") == (
        f"cmbagent engine {RUN_ID}".encode()
    )
    assert sorted(descriptors(engine.pid))[:5] == [0, 1, 2, 3, 4]
    assert tree_members(engine.pid) == [engine.pid]
    assert not engine.has_ended()
    assert engine.exit_status is None


def test_it_takes_a_run_and_says_how_it_ended(
    way: str, start: Callable[[], EngineProcess], work_dir: Path
) -> None:
    engine = start()
    engine.channel.setblocking(True)
    engine.channel.sendall(wire.encode(start_message(work_dir, "", mode="seance")))
    message = read_message(engine, wire.Lines())
    assert message["kind"] == "failed"
    assert engine.has_ended(10)
    assert engine.stop(gently=False) == 0
    assert engine.exit_status == 0


def test_it_freezes_and_thaws(way: str, start: Callable[[], EngineProcess]) -> None:
    engine = start()
    wait_until_up(engine)
    engine.freeze()
    time.sleep(0.05)
    assert state(engine.pid) == "T"
    engine.thaw()
    time.sleep(0.05)
    assert state(engine.pid) != "T"


@pytest.mark.parametrize(("gently", "expected"), [(True, 130), (False, -signal.SIGKILL)])
def test_it_stops(
    way: str, start: Callable[[], EngineProcess], *, gently: bool, expected: int
) -> None:
    engine = start()
    wait_until_up(engine)
    assert engine.stop(gently=gently) == 1
    assert engine.has_ended()
    assert engine.exit_status == expected
    began = time.monotonic()
    assert engine.stop(gently=True) == 0
    assert time.monotonic() - began < 0.1


def test_its_end_closes_the_pipes(way: str, start: Callable[[], EngineProcess]) -> None:
    engine = start()
    engine.stop(gently=False)
    assert os.read(engine.stdout, 100) == b""


def test_a_start_keeps_no_descriptor_open(way: str, work_dir: Path) -> None:
    before = open_descriptors()
    engine = EngineProcess(RUN_ID, work_dir, engine_environment(work_dir))
    engine.stop(gently=False)
    engine.close()
    assert open_descriptors() == before


def open_descriptors() -> list[str]:
    return [entry.name for entry in Path("/proc/self/fd").iterdir()]


def test_the_way_to_a_provider_is_for_engines_alone(
    monkeypatch: pytest.MonkeyPatch, work_dir: Path
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("https_proxy", "http://somebody:secret@proxy:3128")
    assert proxies().items() >= {"https_proxy": "http://somebody:secret@proxy:3128"}.items()
    assert "secret" not in str(engine_environment(work_dir)), "what the template is given"


# -- a template that does not serve -----------------------------------------------------------
def test_a_frozen_template_delays_a_start_for_less_than_a_quarter_of_a_lease(
    keeper: TemplateKeeper, start: Callable[[], EngineProcess], settings: Settings
) -> None:
    assert keeper.pid
    os.kill(keeper.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        engine = start()
        assert time.monotonic() - began < settings.LEASE_SECONDS / 4
        assert not engine.is_forked
        wait_until_up(engine)
    finally:
        os.kill(keeper.pid, signal.SIGCONT)
    deadline = time.monotonic() + 5  # it forks what was asked meanwhile, for nobody
    time.sleep(0.2)
    while children_of(keeper.pid):
        assert time.monotonic() < deadline, "an engine that nobody supervises"
        time.sleep(0.02)
    assert start().is_forked


def test_a_template_that_stays_frozen_is_replaced(
    keeper: TemplateKeeper,
    start: Callable[[], EngineProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(template_keeper, "ASK_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(template_keeper, "ANSWER_WITHIN_SECONDS", 0.5)
    frozen = keeper.pid
    assert frozen
    for _ in range(20):  # it is asked and answers
        keeper.watch()
        time.sleep(0.05)
    assert keeper.pid == frozen
    os.kill(frozen, signal.SIGSTOP)
    watch_until(keeper, lambda: keeper.pid != frozen and keeper.is_ready)
    assert start().is_forked


def test_a_killed_template_is_replaced_and_nobody_waits_meanwhile(
    keeper: TemplateKeeper, start: Callable[[], EngineProcess]
) -> None:
    killed = keeper.pid
    assert killed
    os.kill(killed, signal.SIGKILL)
    watch_until(keeper, lambda: keeper.pid not in {killed, None})
    assert not keeper.is_ready
    engine = turned_away(keeper, start)
    assert not engine.is_forked
    watch_until(keeper, lambda: keeper.is_ready)
    assert start().is_forked


def turned_away(keeper: TemplateKeeper, start: Callable[[], EngineProcess]) -> EngineProcess:
    """Start one in the moment in which a worker host looks: the test is both."""
    signal.signal(signal.SIGALRM, lambda *_: keeper.watch())
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        began = time.monotonic()
        engine = start()
        assert time.monotonic() - began < 1.0
        return engine
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_a_template_that_cannot_start_is_told_and_tried_less_and_less_often(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, start: Callable[[], EngineProcess]
) -> None:
    monkeypatch.setattr(template_keeper, "PROGRAM", ("-c", "import no_such_module"))
    monkeypatch.setenv(TEMPLATE_BUILD, "")
    keeper = TemplateKeeper()
    try:
        with capture_logs() as logs:
            watch_until(keeper, lambda: [log for log in logs if log["event"] == "template_died"])
        assert logs[-1]["status"] == 1
        assert logs[-1]["again_in_s"] > 0
        keeper.watch()
        assert keeper.pid is None, "not at once again"
        assert not turned_away(keeper, start).is_forked
    finally:
        keeper.stop()


def test_engines_of_a_killed_template_live_on_and_are_buried_by_the_host(
    keeper: TemplateKeeper, start: Callable[[], EngineProcess]
) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # as a worker host is
    try:
        engine = start()
        wait_until_up(engine)
        assert keeper.pid
        os.kill(keeper.pid, signal.SIGKILL)
        watch_until(keeper, lambda: engine.pid in children_of(os.getpid()))
        keeper.bury_adopted(children_of(os.getpid()))
        assert engine.pid in keeper.engines
        assert not engine.has_ended(0.3)
        assert engine.stop(gently=True) == 1
        assert engine.exit_status is None, "nobody is left to tell it"
        keeper.bury_adopted(children_of(os.getpid()))
        assert engine.pid not in keeper.engines
        assert engine.pid not in children_of(os.getpid())
        assert engine.stop(gently=False) == 0
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_the_roster_knows_the_living(keeper: TemplateKeeper, work_dir: Path) -> None:
    engine = EngineProcess(RUN_ID, work_dir, engine_environment(work_dir))
    try:
        watch_until(keeper, lambda: engine.pid in keeper.engines, within=5)
    finally:
        engine.stop(gently=False)
        engine.close()
    watch_until(keeper, lambda: engine.pid not in keeper.engines, within=5)


# -- secrets ----------------------------------------------------------------------------------
def test_no_secret_of_the_server_is_in_the_memory_of_template_and_engine(
    keeper: TemplateKeeper, start: Callable[[], EngineProcess]
) -> None:
    engine = start()
    wait_until_up(engine)
    assert keeper.pid
    assert holds(os.getpid(), SECRET), "the search finds what is there"
    for pid in (keeper.pid, engine.pid):
        assert not holds(pid, SECRET)
        assert "OPENAI" not in Path(f"/proc/{pid}/environ").read_bytes().decode()


def holds(pid: int, text: str) -> bool:
    """Whether a process has this text anywhere in its memory."""
    sought = text.encode()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                low, high = (int(number, 16) for number in span.split("-"))
                memory.seek(low)
                if sought in memory.read(high - low):
                    return True
    return False
