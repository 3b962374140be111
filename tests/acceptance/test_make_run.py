"""`make run` as an operator meets it: real processes, real accidents.

Bounds on time are what is promised, times three: the machine may be busy with other tests.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deployment import (
    BASE_DIR,
    Deployment,
    children,
    command_line,
    descendants,
    state,
    wait_until,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

HEALTHY_S = 15.0
BACK_S = 15.0
GONE_S = 20.0  # not times three: all processes gone within 20 s is itself generous
LINK = re.compile(r"Sign in: (http://\S+/sign-in/link/\?token=\S+)")


class Served:
    """One `manage.py serve` (or `make run`) with a data folder and a port of its own."""

    def __init__(self, house: Deployment, *command: str) -> None:
        self.house = house
        self.output = house.folder / "output.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command or (sys.executable, "manage.py", "serve"),
                cwd=BASE_DIR,
                env=house.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # as a terminal would: Ctrl-C reaches this group only
            )

    def wait_until_healthy(self) -> None:
        wait_until(lambda: is_healthy(self.house), within=HEALTHY_S, what="health")

    def said(self) -> str:
        return self.output.read_text(errors="backslashreplace")

    def link(self) -> str:
        found = wait_until(lambda: LINK.search(self.said()), within=HEALTHY_S, what="a link")
        return found[1]

    def parent(self) -> int:
        """The process of `manage.py serve` itself."""
        candidates = [self.process.pid, *descendants([self.process.pid])]
        return next(pid for pid in candidates if command_line(pid).endswith("manage.py serve"))

    def child(self, word: str) -> int | None:
        with contextlib.suppress(StopIteration):
            pids = children(self.parent())
            return next(pid for pid in pids if word in command_line(pid) and state(pid) != "Z")
        return None

    def wait_for_child(self, word: str, *, other_than: int | None = None) -> int:
        def look() -> int | None:
            return pid if (pid := self.child(word)) != other_than else None

        return wait_until(look, within=BACK_S, what=f"a child {word}")

    def everybody(self) -> list[int]:
        return [self.process.pid, *descendants([self.process.pid])]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GONE_S + 5)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def house() -> Iterator[Deployment]:
    house = Deployment("embedded", workers=2)
    yield house
    house.remove()


@pytest.fixture
def served(house: Deployment) -> Iterator[Served]:
    served = Served(house)
    try:
        served.wait_until_healthy()
        yield served
    finally:
        served.end()


def is_healthy(house: Deployment) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{house.url}/api/health/live", timeout=2).status_code == 200
    return False


def refused(house: Deployment, **settings: str) -> str:
    """What it says when it does not start."""
    ended = subprocess.run(
        [sys.executable, "manage.py", "serve"],
        cwd=BASE_DIR,
        env={**house.env, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


def sign_in(link: str) -> httpx.Response:
    """Opens the link in a new browser, so to speak, and presses Continue."""
    with httpx.Client(follow_redirects=False) as browser:
        page = browser.get(link)
        assert page.status_code == 200
        fields = dict(re.findall(r'name="(csrfmiddlewaretoken|token)" value="([^"]+)"', page.text))
        address, origin = link.partition("?")[0], link.partition("/sign-in")[0]
        return browser.post(address, data=fields, headers={"Origin": origin})


def is_gone(pid: int) -> bool:
    return state(pid) in "XZ"


def test_the_printed_link_signs_in_once(served: Served) -> None:
    link = served.link()
    assert sign_in(link).status_code == 303
    assert sign_in(link).status_code == 410
    assert served.said().count("Sign in: ") == 1
    token = link.partition("token=")[2]
    assert served.said().count(token) == 1  # where it is told, and in no log line


def test_what_the_first_start_makes_is_for_its_owner_alone(served: Served) -> None:
    data = Path(served.house.env["CMBAGENT_DATA_DIR"])
    served.link()
    assert stat.S_IMODE((data / "secret_key").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    with contextlib.closing(sqlite3.connect(data / "db.sqlite3")) as database:
        rows = database.execute("SELECT username, password FROM auth_user").fetchall()
    assert [(name, password[0]) for name, password in rows] == [("admin", "!")]


def test_a_killed_web_process_is_back(served: Served) -> None:
    worker, web = served.wait_for_child("run_workers"), served.wait_for_child("daphne")
    os.kill(web, signal.SIGKILL)
    served.wait_for_child("daphne", other_than=web)
    served.wait_until_healthy()
    assert served.child("run_workers") == worker


def test_a_killed_worker_is_back(served: Served) -> None:
    web, worker = served.wait_for_child("daphne"), served.wait_for_child("run_workers")
    wait_until(lambda: children(worker), within=HEALTHY_S, what="a cluster")
    below = descendants([worker])
    os.kill(worker, signal.SIGKILL)
    served.wait_for_child("run_workers", other_than=worker)
    wait_until(lambda: all(map(is_gone, below)), within=BACK_S, what="the end of its cluster")
    assert served.child("daphne") == web


def test_sigterm_ends_everybody(served: Served) -> None:
    worker = served.wait_for_child("run_workers")
    wait_until(lambda: children(worker), within=HEALTHY_S, what="a cluster")
    everybody = served.everybody()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(GONE_S) == 0
    assert [pid for pid in everybody if not is_gone(pid)] == []


def test_kill_9_ends_everybody(served: Served) -> None:
    worker = served.wait_for_child("run_workers")
    wait_until(lambda: children(worker), within=HEALTHY_S, what="a cluster")
    everybody = served.everybody()
    served.process.kill()
    served.process.wait()
    wait_until(lambda: all(map(is_gone, everybody)), within=GONE_S, what="the end of everybody")


def test_started_again_it_keeps_what_it_made(house: Deployment) -> None:
    def first_start() -> str:
        served = Served(house)
        try:
            served.wait_until_healthy()
            return served.link()
        finally:
            served.end()

    key = Path(house.env["CMBAGENT_DATA_DIR"]) / "secret_key"
    first, made = first_start(), None
    made = key.read_text()
    assert first_start() != first
    assert key.read_text() == made


@pytest.mark.parametrize("how", ["SIGTERM to make", "Ctrl-C in the terminal"])
def test_make_run_passes_the_end_on(house: Deployment, how: str) -> None:
    served = Served(house, "make", "run")
    try:
        served.wait_until_healthy()
        served.wait_for_child("run_workers")
        everybody = served.everybody()
        if how == "SIGTERM to make":
            served.process.send_signal(signal.SIGTERM)
        else:
            os.killpg(served.process.pid, signal.SIGINT)
        served.process.wait(GONE_S)
        assert [pid for pid in everybody if not is_gone(pid)] == []
    finally:
        served.end()


def test_a_second_server_on_the_same_folder_is_refused(served: Served) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    assert "Another server is running on" in refused(served.house, PORT=port)
    assert is_healthy(served.house)


def test_a_busy_port_is_refused(house: Deployment) -> None:
    with socket.create_server(("127.0.0.1", house.port)):
        said = refused(house)
    assert f"Cannot listen on port {house.port} of 127.0.0.1" in said
    assert "make run PORT=" in said


@pytest.mark.parametrize(
    ("wrong", "sentences"),
    [
        ({"PORT": "http"}, ["PORT", "1 to 65535"]),
        ({"PORT": "70000"}, ["PORT"]),
        ({"CMBAGENT_WORKERS": "none", "LOG_LEVEL": "LOUD"}, ["CMBAGENT_WORKERS", "LOG_LEVEL"]),
        ({"CMBAGENT_SANDBOX": "0"}, ["CMBAGENT_SANDBOX"]),
        ({"HOST": "0.0.0.0"}, ["other machines", "CMBAGENT_PUBLIC_URL"]),
        ({"CMBAGENT_DATA_ROOTS": "/nowhere/at/all"}, ["/nowhere/at/all"]),
        ({"DATABASE_URL": "mysql://host/name"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "no address"}, ["DATABASE_URL"]),
        ({"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}, ["does not answer"]),
        ({"REDIS_URL": "localhost"}, ["REDIS_URL"]),
        ({"CMBAGENT_DATA_DIR": "/proc/cmbagent"}, ["/proc/cmbagent"]),
        ({"LOG_FILE": "/nowhere/at/all.log"}, ["LOG_FILE"]),
        ({"HOST": "no.such.host.example"}, ["no.such.host.example"]),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(
    house: Deployment, wrong: dict[str, str], sentences: list[str]
) -> None:
    said = refused(house, **wrong)
    assert [sentence for sentence in sentences if sentence not in said] == []
