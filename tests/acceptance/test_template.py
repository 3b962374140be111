"""The template among the other processes of a worker host: whose it is, and what outlives whom."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.deployment import Deployment, children, command_line, descendants, state, wait_until

pytestmark = pytest.mark.acceptance
SLOW = """```python
import time
for n in range(100):
    print("line", n, flush=True)
    time.sleep(0.2)
```"""


@pytest.fixture
def house() -> Iterator[Deployment]:
    with Deployment.running("embedded") as house:
        wait_until(lambda: "template_ready" in house.log.read_text(), within=90, what="a template")
        yield house


def begun(house: Deployment) -> list[int]:
    """Engines of two runs that print."""
    runs = [house.start_run(SLOW) for _ in range(2)]
    for run in runs:
        house.wait_for_output(run, "line 2\n")
    return [house.engine_of(run) for run in runs]


def living(pids: list[int]) -> list[str]:
    return [command_line(pid) for pid in pids if state(pid) not in "ZX"]


@pytest.mark.timeout(240)
def test_engines_are_its_children_and_then_the_host_s(house: Deployment) -> None:
    engines = begun(house)
    [template] = house.template_pids()
    assert set(engines) <= set(children(template))
    os.kill(template, signal.SIGKILL)
    host = house.processes["workers"].pid
    wait_until(lambda: set(engines) <= set(children(host)), within=5, what="their adoption")
    time.sleep(0.5)  # ten rounds of the watch
    assert len(living(engines)) == 2


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_host(house: Deployment, how: signal.Signals) -> None:
    engines = begun(house)
    below = descendants([house.processes["workers"].pid])
    assert set(engines) < set(below)
    assert set(house.template_pids()) < set(below)
    house.kill("workers", how)
    wait_until(lambda: not living(below), within=5, what="the end of all")
