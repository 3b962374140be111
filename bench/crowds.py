"""Many sockets on one web process: what they hold, how soon they hear, how they come back.

Events are appended by a writer of our own, so that nothing is executed meanwhile. Compared with
another commit (`AGAINST=`), both are measured one after the other in the same minutes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from bench.crowd import Crowd, Writer, allow_many_files
from bench.figures import Figure
from bench.idle_sockets import cpu_seconds, only_web, pss_kb
from tests.deployment import BASE_DIR, Deployment, Shape, TookTooLong

SETTLE_SECONDS = 6.0
WARM = 50  # code, threads and database connections that the first sockets bring
PATIENCE_SECONDS = 60.0  # for what is late; after that it is lost
LOAD_SECONDS = 15.0
ONE_SESSION, EVENTS_A_SECOND = 1_000, 50
MESSAGES_A_SECOND, TOGETHER = 1_000, 20  # messages to sockets; events in one transaction
VIEWERS = (1, 10)  # of each session
FLOOR_KB, PROMISED_HINTLESS_MS = 45, 1_200
BACKLOG, STALLED = 100_000, (1, 19)  # events; readers, one group after the other
DEAF = {"DJANGO_SETTINGS_MODULE": "bench.deaf_settings"}


@dataclass(frozen=True)
class Candidate:
    """A program to measure, and what its figures are called."""

    label: str
    program: Path = BASE_DIR


@dataclass(frozen=True)
class Pace:
    """Events a second in all, and how many in one transaction."""

    rate: float
    together: int = 1


@dataclass(frozen=True)
class Scene:
    """A web process, somebody who writes, and a crowd that listens."""

    candidate: Candidate
    house: Deployment
    writer: Writer
    crowd: Crowd

    @classmethod
    @contextlib.contextmanager
    def of(
        cls, candidate: Candidate, shape: Shape, env: dict[str, str] | None = None
    ) -> Iterator[Self]:
        with (
            only_web(shape, program=candidate.program, env=env) as house,
            Writer(house) as writer,
            Crowd(house) as crowd,
        ):
            yield cls(candidate, house, writer, crowd)

    @property
    def web_pid(self) -> int:
        return self.house.processes["web"].pid

    def figure(self, what: str, unit: str, value: float, bound: float | None = None) -> Figure:
        label = self.candidate.label
        name = f"{what}, {label}" if label else what
        return Figure(name, self.house.shape, unit, [value], bound)


def measure(
    candidates: list[Candidate], sockets: int, shapes: tuple[Shape, ...]
) -> Iterator[Figure]:
    allow_many_files()
    for shape in shapes:
        for viewers in VIEWERS:
            for candidate in candidates:
                yield from spread(candidate, shape, sockets, viewers)
        for candidate in candidates:
            yield from all_on_one_session(candidate, shape, min(sockets, ONE_SESSION))
        yield from without_hints(candidates[0], shape)
        for candidate in candidates:
            yield from stalled(candidate, shape)


# -- over many sessions -----------------------------------------------------------------------
def spread(candidate: Candidate, shape: Shape, sockets: int, viewers: int) -> Iterator[Figure]:
    """So many sockets, `viewers` on each session."""
    # the rows of a killed web process count until its heart is known to be dead
    env = {"MAX_CONNECTIONS": str(3 * sockets)}
    what = f"{sockets:,} sockets, {viewers} a session"
    with Scene.of(candidate, shape, env) as scene:
        sessions = scene.writer.order("make", number=sockets // viewers)
        yield from idle(scene, sessions * viewers, what)
        pace = Pace(MESSAGES_A_SECOND / viewers, TOGETHER)
        yield from load(scene, sessions, f"{what}, {MESSAGES_A_SECOND:,} messages/s", pace)
        yield from storm(scene, sessions, what)


def idle(scene: Scene, sessions: list[str], what: str) -> Iterator[Figure]:
    crowd, pid = scene.crowd, scene.web_pid
    crowd.join(sessions[:WARM])
    before, busy = pss_kb(pid), cpu_seconds(pid)
    took = crowd.join(sessions[WARM:])
    number, busy = len(sessions) - WARM, cpu_seconds(pid) - busy
    time.sleep(SETTLE_SECONDS)
    held = (pss_kb(pid) - before) / number
    yield scene.figure(f"{what}: held, each", "KB", held, FLOOR_KB)
    yield scene.figure(f"{what}: idle", "% of a core", cpu_share(pid, SETTLE_SECONDS))
    yield scene.figure(f"{what}: processor, to connect one", "ms", 1000 * busy / number)
    yield scene.figure(f"{what}: connected", "sockets/s", number / took)


def storm(scene: Scene, sessions: list[str], what: str) -> Iterator[Figure]:
    """The web process is killed; while it is away something happens in every tenth session."""
    scene.crowd.order("forget")
    scene.house.kill("web")
    some = sessions[::10]
    missed = scene.writer.order("pace", sessions=some, rate=len(some), seconds=1, together=50)
    began = time.time()
    with contextlib.suppress(TookTooLong):  # healthy: in a storm its answers may be late
        scene.house.start_web()
    up = time.time()
    live_at = scene.crowd.wait_until_live(within=600)
    report = scene.crowd.wait_for(missed["heads"], within=PATIENCE_SECONDS)
    what = f"{what}, after a kill"
    yield scene.figure(f"{what}: the server says that it lives, after its start", "s", up - began)
    yield scene.figure(f"{what}: all live, after its start", "s", live_at - began)
    yield scene.figure(f"{what}: lost or doubled", "events", wrong(report), 0)


# -- all on one session -----------------------------------------------------------------------
def all_on_one_session(candidate: Candidate, shape: Shape, sockets: int) -> Iterator[Figure]:
    with Scene.of(candidate, shape) as scene:
        sessions = scene.writer.order("make", number=1)
        scene.crowd.join(sessions * sockets)
        what = f"{sockets:,} sockets on one session, {EVENTS_A_SECOND} events/s"
        yield from load(scene, sessions, what, Pace(EVENTS_A_SECOND))


def without_hints(candidate: Candidate, shape: Shape) -> Iterator[Figure]:
    """No hint reaches the web process."""
    with Scene.of(candidate, shape, DEAF) as scene:
        sessions = scene.writer.order("make", number=20)
        scene.crowd.join(sessions)
        pace = Pace(100)
        yield from load(scene, sessions, "all hints lost", pace, PROMISED_HINTLESS_MS)


def stalled(candidate: Candidate, shape: Shape) -> Iterator[Figure]:
    """What readers hold of the web process that ask for a long log and read nothing of it."""
    with Scene.of(candidate, shape) as scene:
        session, quiet = scene.writer.order("make", number=2)
        scene.writer.order("fill", session=session, events=BACKLOG)
        scene.crowd.join([quiet] * WARM)
        scene.crowd.join([session])  # what reading a long log brings once is not of the stalled
        before = pss_kb(scene.web_pid)
        together = 0
        for number in STALLED:
            scene.crowd.order("stall", session=session, number=number)
            time.sleep(SETTLE_SECONDS)
            held = (pss_kb(scene.web_pid) - before) / 1024
            together += number
            what = f"{together} stalled readers of {BACKLOG:,} events"
            yield scene.figure(f"{what}: held, all", "MB", held)


def load(
    scene: Scene, sessions: list[str], what: str, pace: Pace, promised_p99: float | None = None
) -> Iterator[Figure]:
    """Events at a pace; when everybody has them, how late they were and what they cost."""
    scene.crowd.order("forget")
    client, web, began = scene.crowd.report()["cpu_s"], cpu_seconds(scene.web_pid), time.time()
    written = scene.writer.order("pace", sessions=sessions, seconds=LOAD_SECONDS, **asdict(pace))
    report = scene.crowd.wait_for(written["heads"], within=PATIENCE_SECONDS)
    took = max(report["last_at"] - began, 0.001)
    client, web = report["cpu_s"] - client, cpu_seconds(scene.web_pid) - web
    yield scene.figure(f"{what}: p50", "ms", report["told"]["p50"])
    yield scene.figure(f"{what}: p99", "ms", report["told"]["p99"], promised_p99)
    yield scene.figure(f"{what}: lost or doubled", "events", wrong(report), 0)
    yield scene.figure(f"{what}: written", "events/s", written["rate"])
    yield scene.figure(f"{what}: delivered", "events/s", report["events"] / took)
    yield scene.figure(f"{what}: web, a delivery", "µs", 1e6 * web / max(1, report["events"]))
    for who, seconds in (("web", web), ("client", client), ("writer", written["cpu_s"])):
        yield scene.figure(f"{what}: {who}", "% of a core", 100 * seconds / took)


def wrong(report: dict[str, int]) -> int:
    return report["missing"] + report["gaps"] + report["doubles"]


def cpu_share(pid: int, seconds: float) -> float:
    """Percent of a core during the next seconds."""
    busy = cpu_seconds(pid)
    time.sleep(seconds)
    return 100 * (cpu_seconds(pid) - busy) / seconds
