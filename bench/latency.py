"""From a print to the socket, and how much gets through."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import Figure, percentile
from bench.watching import Watcher, new_session
from tests.deployment import Deployment

REPEATS = 5
PACED = """```python
import sys, time
began = time.perf_counter()
for n in range({lines}):
    while time.perf_counter() < began + n / {rate}:
        time.sleep(0.0005)
    sys.stdout.write(f"{{time.time():.6f}}\\n")
    sys.stdout.flush()
```"""
BURST = """```python
import sys, time
print(f"{{time.time():.6f}}", flush=True)
for n in range({lines}):
    sys.stdout.write(f"line {{n:9d}} of a burst, as long as a line of a log often is\\n")
```"""
BURST_LINES = 60_000
PROMISED_LINES = {"embedded": 10_000, "production": 5_000}


def measure(house: Deployment) -> Iterator[Figure]:
    yield print_to_socket(house, rate=1000, seconds=5)
    yield throughput(house)


def print_to_socket(house: Deployment, *, rate: int, seconds: int) -> Figure:
    """The 99th percentile over all lines of a run, of five runs."""
    worst = []
    for _ in range(REPEATS):
        session = new_session(house)
        watcher = Watcher(house, session)
        house.start_run(PACED.format(lines=rate * seconds, rate=rate), session)
        arrived = watcher.wait(seconds + 60)
        latencies = [
            (at - float(line)) * 1000
            for at, event in arrived
            if event["event_type"] == "output"
            for line in event["data"]["text"].split()
        ]
        assert len(latencies) == rate * seconds, "a line is missing"
        worst.append(percentile(latencies, 0.99))
    return Figure(f"print to socket, p99 at {rate:,} lines/s", house.shape, "ms", worst, 60)


def throughput(house: Deployment) -> Figure:
    """Lines stored and delivered per second, first print to last arrival, of a burst."""
    rates = []
    for _ in range(REPEATS):
        session = new_session(house)
        watcher = Watcher(house, session)
        house.start_run(BURST.format(lines=BURST_LINES), session)
        output = [(at, e["data"]["text"]) for at, e in watcher.wait(180) if "text" in e["data"]]
        text = "".join(text for _, text in output)
        assert text.count("\n") == BURST_LINES + 1, "a line is missing"
        rates.append(BURST_LINES / (output[-1][0] - float(text.split("\n", 1)[0])))
    bound = PROMISED_LINES[house.shape]
    return Figure(
        "lines stored and delivered", house.shape, "lines/s", rates, bound, more_is_better=True
    )
