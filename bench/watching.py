"""A client of the socket that notes when each line arrived."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from websockets.sync.client import connect

from tests.deployment import Deployment


class Watcher:
    """Follows a session in a thread of its own, acknowledges, keeps (arrival, event)."""

    def __init__(self, house: Deployment, session: str) -> None:
        self.arrived: list[tuple[float, dict[str, Any]]] = []
        self._ended = threading.Event()
        self._last = "run_completed"
        url = f"{house.url.replace('http', 'ws')}/ws/sessions/{session}/?after=0"
        headers = {"Authorization": f"Bearer {house.token}"}
        self._socket = connect(url, additional_headers=headers, max_size=2**22)
        self._session = session
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._ended.is_set():
            frame = json.loads(self._socket.recv())
            now = time.time()
            if frame["type"] != "events":
                continue
            self.arrived += [(now, event) for event in frame["events"]]
            ack = {"type": "ack", "session": self._session, "seq": frame["last"]}
            self._socket.send(json.dumps(ack))
            if any(event["event_type"] in _ENDS for event in frame["events"]):
                self._ended.set()

    def wait(self, seconds: float) -> list[tuple[float, dict[str, Any]]]:
        """Everything up to the end of the run."""
        if not self._ended.wait(seconds):
            raise TimeoutError(f"the run did not end within {seconds:g} s")
        self._socket.close()
        return self.arrived


_ENDS = frozenset({"run_completed", "run_failed", "run_cancelled"})


def new_session(house: Deployment) -> str:
    return str(house.post("sessions", {"mode": "one-shot"})["session_id"])
