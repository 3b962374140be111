"""Helpers in processes of their own: a crowd of sockets, and a writer of logs."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from tests.deployment import BASE_DIR, Deployment, wait_until


class Helper:
    """A process that obeys orders, one line of JSON each, and answers each with one."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def order(self, do: str, **details: Any) -> Any:
        self.send(do, **details)
        return self.answer()

    def send(self, do: str, **details: Any) -> None:
        """Without waiting for the answer, which must be taken later."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **details}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a helper ended with {self._process.wait(10)}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)


class Writer(Helper):
    """Appends to logs as the program itself does."""

    def __init__(self, house: Deployment) -> None:
        path = Path(__file__).with_name("appending_process.py")
        super().__init__([str(path)], house.program, house.env)


class Crowd(Helper):
    """Many sockets in one process."""

    def __init__(self, house: Deployment) -> None:
        command = ["-m", "bench.crowd_process", str(house.port)]
        super().__init__(command, BASE_DIR, os.environ | {"BENCH_TOKEN": house.token})
        self._joined = 0

    def join(self, sessions: list[str], *, within: float = 300) -> float:
        """Seconds until all of them are live."""
        began = time.time()
        self._joined += len(sessions)
        self.order("join", sessions=sessions)
        return self.wait_until_live(within=within) - began

    def wait_until_live(self, *, within: float) -> float:
        """When the last of all came live."""
        return float(
            wait_until(
                lambda: (report := self.report())["live"] == self._joined and report,
                within=within,
                what=f"{self._joined} live sockets",
                every=0.2,
            )["live_at"]
        )

    def wait_for(self, heads: dict[str, int], *, within: float) -> dict[str, Any]:
        """The report when everybody has everything, or when time is over: what is missing then is
        lost."""
        deadline = time.monotonic() + within
        while (report := self.report(heads))["missing"] and time.monotonic() < deadline:
            time.sleep(0.2)
        return report

    def report(self, heads: dict[str, int] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self.order("report", heads=heads or {})
        return found


def allow_many_files() -> None:
    """For this process and its children: as many descriptors as the machine permits."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
