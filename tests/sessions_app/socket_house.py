"""A web process of a test's own, its log's writers, and a client that speaks the protocol."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.deployment import BASE_DIR, Deployment, Shape
from tests.servers import PostgreSQL, Redis

SOON = 15.0  # the machine may be busy
HAND = """
import contextlib, io, json, sys, traceback
import django
django.setup()
for line in sys.stdin:
    said, failed = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(said):
            exec(json.loads(line), {})
    except Exception:
        failed = traceback.format_exc()
    print(json.dumps([said.getvalue().strip(), failed]), flush=True)
"""
NEW_USER = """
from django.contrib.auth.models import User
from sessions_app.services import create_token
print(create_token(user=User.objects.create(username="{}")))
"""
NEW_SESSION = """
from django.contrib.auth.models import User
from sessions_app.services import create_session
print(create_session(owner=User.objects.get(username="alice"), mode="one-shot").pk)
"""
WRITER = """
import random, time
from sessions_app.event_types import Output
from sessions_app.services import append_events

chance, line = random.Random({seed}), 0
while line < {total}:
    batch = [
        Output(stream="stdout", line=n, text=f"{seed} line {{n}} {{chance.random()}}\\n" + "x" * {pad})
        for n in range(line + 1, min({total}, line + chance.randint(1, {batch})) + 1)
    ]
    append_events("{session}", batch)
    line += len(batch)
    time.sleep(chance.random() * {pause})
"""


class Hand:
    """A process of the deployment that does what it is told: Django starts once, not each time."""

    def __init__(self, house: Deployment) -> None:
        settings = {"DJANGO_SETTINGS_MODULE": "cmbagent_site.settings"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", HAND],
            cwd=BASE_DIR,
            env=house.env | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, program: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(program) + "\n")
        self._process.stdin.flush()

    def finish(self) -> str:
        """What the program printed."""
        assert self._process.stdout is not None
        said, failed = json.loads(self._process.stdout.readline())
        assert not failed, failed
        return str(said)

    def close(self) -> None:
        self._process.communicate(timeout=SOON)


class WebHouse(Deployment):
    """A migrated deployment with its web process and no workers."""

    def __init__(self, shape: Shape, **options: Any) -> None:
        super().__init__(shape, **options)
        self._hands: list[Hand] = []

    @classmethod
    @contextmanager
    def open(cls, shape: Shape, **env: str) -> Iterator[Self]:
        with contextlib.ExitStack() as stack:
            servers: dict[str, Any] = {}
            if shape == "production":
                servers["postgres"] = stack.enter_context(PostgreSQL.running())
                servers["redis"] = stack.enter_context(Redis.running())
            house = cls(shape, env=env, **servers)
            stack.callback(house.remove)
            stack.callback(house.close_hands)
            house.manage("migrate", "--verbosity", "0")
            house.token = house.new_user("alice")
            house.start_web()
            yield house

    def hand(self, number: int) -> Hand:
        while len(self._hands) <= number:
            self._hands.append(Hand(self))
        return self._hands[number]

    def close_hands(self) -> None:
        while self._hands:
            self._hands.pop().close()

    def do(self, program: str) -> str:
        """What a few lines of Python print in this deployment's Django."""
        self.hand(0).start(program)
        return self.hand(0).finish()

    def new_session(self) -> str:
        return self.do(NEW_SESSION)

    def new_user(self, name: str) -> str:
        """The token of a new user."""
        return self.do(NEW_USER.format(name))

    def write(self, session: str, total: int, *, seed: int = 1, pad: int = 0) -> None:
        """Append output with unguessable texts, as fast as it goes."""
        program = WRITER.format(
            session=session, total=total, seed=seed, pad=pad, batch=500, pause=0
        )
        self.do(program)

    @contextmanager
    def writing(
        self, session: str, total: int, *, seed: int = 1, pause: float = 0.02
    ) -> Iterator[None]:
        """The same from another process meanwhile, in small batches of random size."""
        self.hand(1).start(
            WRITER.format(session=session, total=total, seed=seed, pad=0, batch=20, pause=pause)
        )
        try:
            yield
        finally:
            self.hand(1).finish()

    def connection_rows(self) -> int:
        return int(self.query("SELECT count(*) FROM sessions_app_connection")[0][0])


def text_of(event: dict[str, Any]) -> str:
    """What an `output` event printed, in either format."""
    return str(event["data" if "data" in event else "meta"].get("text", ""))


class Client:
    """One socket; frames are dicts. What it received of a session is compared by content."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []

    @classmethod
    @contextmanager
    def open(
        cls, house: Deployment, path: str = "/ws/", *, token: str | None = None, **headers: str
    ) -> Iterator[Self]:
        """Signed in as alice unless another token is given; `token=""` sends none."""
        token = house.token if token is None else token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        url = f"ws://127.0.0.1:{house.port}{path}"
        with connect(
            url,
            additional_headers=headers,
            proxy=None,
            max_size=None,
            open_timeout=SOON,
            close_timeout=1,  # it waits for that long when frames were left unread
        ) as connection:
            yield cls(connection)

    def send(self, **frame: Any) -> None:
        self.connection.send(json.dumps(frame))

    def frame(self, within: float = SOON) -> dict[str, Any]:
        text = self.connection.recv(within)
        frame: dict[str, Any] = json.loads(text)
        frame["size"] = len(text)
        self.frames.append(frame)
        return frame

    def wait_for(self, kind: str, within: float = SOON) -> dict[str, Any]:
        """The next frame of this type; others are kept in `frames`."""
        while (frame := self.frame(within))["type"] != kind:
            pass
        return frame

    def silence(self, seconds: float) -> bool:
        try:
            self.frame(seconds)
        except TimeoutError:
            return True
        return False

    def follow(self, session: str, *, until: int, after: int = 0) -> list[tuple[int, str]]:
        """(seq, text) of what follows `after`, acknowledged, each seq once and in order."""
        lines: list[tuple[int, str]] = []
        while after + len(lines) < until:
            frame = self.wait_for("events")
            assert [event["seq"] for event in frame["events"]] == list(
                range(frame["first"], frame["last"] + 1)
            )
            assert frame["first"] == after + len(lines) + 1, "a gap or a repetition"
            lines += [(event["seq"], text_of(event)) for event in frame["events"]]
            self.send(type="ack", session=session, seq=frame["last"])
        return lines

    def close_code(self) -> int:
        """The code the server closes with; frames before it are kept in `frames`."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.frame()
        assert self.connection.close_code is not None
        return self.connection.close_code
