"""Many who look at one run at once: what each gets, how late, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from tests.deployment import Shape
from tests.sessions_app.socket_house import Client, WebHouse

pytestmark = pytest.mark.acceptance
READERS = 60
LINES = 1_000
LATEST_SECONDS = 15.0  # on a machine that does other work too; the tick alone is one second
MOST_KB_EACH = 1_000  # of a reader that is served: its window, not the log


@pytest.fixture(scope="module", params=["embedded", "production"])
def house(request: pytest.FixtureRequest) -> Iterator[WebHouse]:
    shape: Shape = request.param
    with WebHouse.open(shape) as running:
        yield running


def test_sixty_readers_each_get_every_line_in_time(house: WebHouse) -> None:
    session = house.new_session()
    before = memory_kb(house)
    with ThreadPoolExecutor(READERS) as pool:
        with house.writing(session, LINES, pause=0.05):
            reading = [pool.submit(read_all, house, session) for _ in range(READERS)]
        read = [each.result(timeout=120) for each in reading]
    texts, latest = zip(*read, strict=True)
    assert all(text == texts[0] for text in texts)
    assert len(texts[0]) == LINES
    assert max(latest) < LATEST_SECONDS
    assert (memory_kb(house) - before) / READERS < MOST_KB_EACH


def read_all(house: WebHouse, session: str) -> tuple[list[str], float]:
    """What one reader got of the output, and how long it took from the log to the reader at most."""
    texts: list[str] = []
    latest = 0.0
    with Client.open(house, f"/ws/sessions/{session}/") as client:
        opened = time.time()
        while len(texts) < LINES:
            frame = client.wait_for("events", within=60)
            for event in frame["events"]:
                if event["event_type"] == "output":
                    texts.append(event["data"]["text"])
                    written = datetime.fromisoformat(event["timestamp"]).timestamp()
                    latest = max(latest, time.time() - max(written, opened))
            client.send(type="ack", session=session, seq=frame["last"])
    return texts, latest


def memory_kb(house: WebHouse) -> int:
    lines = Path(f"/proc/{house.processes['web'].pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
