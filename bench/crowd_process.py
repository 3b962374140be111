"""Thousands of sockets in one process that costs little: `python -m bench.crowd_process PORT`.

No WebSocket library: with one, the client would be the limit. One epoll loop; of a frame only type,
first, last and times are read, and a frame that many sockets get is read once. Orders come as lines
of JSON on stdin, each is answered by a line on stdout. A socket that breaks comes back from its
cursor after the pause that a page makes.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import socket
import sys
import time
from array import array
from typing import Any

from bench.figures import percentile
from bench.frames import CLOSE, PING, PONG, TEXT, News, client_frame, kind_of, split_frames

AT_ONCE = 2_000  # connections under way; browsers would not wait for each other either
ACK_EVENTS = 200
READ_BYTES = 256 * 1024
KNOWN_FRAMES = 512
NEVER_READ_BYTES = 4_096  # what the kernel keeps for a socket that nobody reads


class Follower:
    """One socket that follows one session, over as many connections as it takes."""

    __slots__ = (
        "acked",
        "buffer",
        "is_live",
        "is_up",
        "last",
        "number",
        "session",
        "socket",
        "tries",
    )

    def __init__(self, number: int, session: str) -> None:
        self.number, self.session = number, session
        self.socket: socket.socket | None = None
        self.buffer = b""
        self.is_up = self.is_live = False
        self.last = self.acked = 0
        self.tries = 0


class Crowd:
    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._poll = select.epoll()
        self._by_fd: dict[int, Follower] = {}
        self._all: list[Follower] = []
        self._stalled: list[socket.socket] = []
        self._due: list[tuple[float, int]] = []  # (when, whom) to connect
        self._connecting = self._live = 0
        self._known: dict[bytes, News] = {}
        self._forget()

    def _forget(self) -> None:
        """Begin to measure."""
        self._told = array("d")  # seconds from when a line was said to its arrival
        self._stored = array("d")  # seconds from an event's timestamp to its arrival
        self._events = self._frames = self._lines = 0
        self._gaps = self._doubles = self._breaks = 0
        self._last_at = self._line_at = self._live_at = 0.0

    # -- orders -------------------------------------------------------------------------------
    def run(self) -> None:
        self._poll.register(0, select.EPOLLIN)
        orders = b""
        while True:
            self._connect_due()
            for fd, _ in self._poll.poll(self._pause(), 1024):
                if fd == 0:
                    data = os.read(0, 1 << 20)
                    if not data:
                        return
                    *lines, orders = (orders + data).split(b"\n")
                    for line in lines:
                        self._obey(json.loads(line))
                elif fd in self._by_fd:
                    self._read(self._by_fd[fd])

    def _pause(self) -> float:
        if not self._due or self._connecting >= AT_ONCE:
            return 0.5
        return max(0.0, min(0.5, self._due[0][0] - time.time()))

    def _obey(self, order: dict[str, Any]) -> None:
        answer: dict[str, Any] = {}
        match order["do"]:
            case "join":
                self._join(order["sessions"])
            case "stall":
                self._stall(order["session"], order["number"])
            case "forget":
                self._forget()
            case "report":
                answer = self._report(order["heads"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def _join(self, sessions: list[str]) -> None:
        for session in sessions:
            heapq.heappush(self._due, (0.0, len(self._all)))
            self._all.append(Follower(len(self._all), session))

    def _stall(self, session: str, number: int) -> None:
        """Sockets that ask for everything and read nothing."""
        for _ in range(number):
            stalled = socket.socket()
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NEVER_READ_BYTES)
            stalled.connect(("127.0.0.1", self._port))
            stalled.sendall(self._handshake(session, 0))
            self._stalled.append(stalled)

    def _report(self, heads: dict[str, int]) -> dict[str, Any]:
        missing = sum(max(0, heads.get(each.session, 0) - each.last) for each in self._all)
        return {
            "live": self._live,
            "live_at": self._live_at,
            "events": self._events,
            "frames": self._frames,
            "lines": self._lines,
            "gaps": self._gaps,
            "doubles": self._doubles,
            "breaks": self._breaks,
            "missing": missing,
            "line_at": self._line_at,
            "last_at": self._last_at,
            "told": _summary(self._told),
            "stored": _summary(self._stored),
            "cpu_s": time.process_time(),
        }

    # -- connections --------------------------------------------------------------------------
    def _connect_due(self) -> None:
        now = time.time()
        while self._due and self._due[0][0] <= now and self._connecting < AT_ONCE:
            self._connect(self._all[heapq.heappop(self._due)[1]])

    def _connect(self, follower: Follower) -> None:
        try:
            made = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            made.sendall(self._handshake(follower.session, follower.last))
        except OSError:
            self._again(follower)
            return
        made.setblocking(False)
        follower.socket, follower.buffer = made, b""
        self._connecting += 1
        self._by_fd[made.fileno()] = follower
        self._poll.register(made.fileno(), select.EPOLLIN)

    def _handshake(self, session: str, after: int) -> bytes:
        lines = (
            f"GET /ws/sessions/{session}/?after={after} HTTP/1.1",
            f"Host: 127.0.0.1:{self._port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version: 13",
            f"Authorization: Bearer {self._token}",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _break(self, follower: Follower) -> None:
        if follower.socket is None:
            return
        self._breaks += 1
        self._live -= follower.is_live
        self._connecting -= not follower.is_live
        del self._by_fd[follower.socket.fileno()]
        follower.socket.close()
        follower.socket = None
        follower.is_up = follower.is_live = False
        self._again(follower)

    def _again(self, follower: Follower) -> None:
        """After the pause that static/stream.js makes."""
        follower.tries += 1
        cap = min(10.0, 0.4 * 2 ** min(follower.tries, 8))
        when = time.time() + 0.2 + random.random() * cap
        heapq.heappush(self._due, (when, follower.number))

    # -- frames -------------------------------------------------------------------------------
    def _read(self, follower: Follower) -> None:
        assert follower.socket is not None
        try:
            data = follower.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._break(follower)
            return
        data = follower.buffer + data
        if not follower.is_up:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                follower.buffer = head
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self._break(follower)
                return
            follower.is_up = True
        frames, follower.buffer = split_frames(data)
        for opcode, payload in frames:
            self._take(follower, opcode, payload)

    def _take(self, follower: Follower, opcode: int, payload: bytes) -> None:
        if follower.socket is None:
            return
        if opcode == PING:
            follower.socket.send(client_frame(PONG, payload))
        elif opcode == CLOSE:
            self._break(follower)
        elif opcode == TEXT:
            match kind_of(payload):
                case b"events":
                    self._take_events(follower, payload)
                case b"live" if not follower.is_live:
                    self._note_live(follower)

    def _note_live(self, follower: Follower) -> None:
        follower.is_live, follower.tries = True, 0
        self._connecting -= 1
        self._live += 1
        self._live_at = time.time()

    def _take_events(self, follower: Follower, payload: bytes) -> None:
        now = time.time()
        news = self._news(payload)
        self._gaps += max(0, news.first - follower.last - 1)
        self._doubles += max(0, follower.last - news.first + 1)
        self._events += news.last - news.first + 1
        self._frames += 1
        self._lines += news.lines
        self._told.extend([now - at for at in news.told])
        self._stored.extend([now - at for at in news.stored])
        self._last_at = now
        if news.lines:
            self._line_at = now
        follower.last = news.last
        if follower.last - follower.acked >= ACK_EVENTS or len(payload) > 2**16:
            self._acknowledge(follower)

    def _news(self, payload: bytes) -> News:
        news = self._known.get(payload)
        if news is None:
            if len(self._known) >= KNOWN_FRAMES:
                self._known.clear()
            news = self._known[payload] = News(payload)
        return news

    def _acknowledge(self, follower: Follower) -> None:
        follower.acked = follower.last
        ack = {"type": "ack", "session": follower.session, "seq": follower.last}
        if follower.socket is not None:
            follower.socket.send(client_frame(TEXT, json.dumps(ack).encode()))


def _summary(seconds: array[float]) -> dict[str, float]:
    """In milliseconds."""
    if not seconds:
        return {"n": 0, "p50": 0.0, "p99": 0.0, "max": 0.0}
    return {
        "n": len(seconds),
        "p50": 1000 * percentile(seconds, 0.5),
        "p99": 1000 * percentile(seconds, 0.99),
        "max": 1000 * max(seconds),
    }


if __name__ == "__main__":
    Crowd(int(sys.argv[1]), os.environ["BENCH_TOKEN"]).run()
