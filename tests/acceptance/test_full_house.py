"""Nothing that must happen stands in the run queue: all workers are busy and it happens."""

from __future__ import annotations

import time

import pytest

from tests.deployment import Deployment, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]
BUSY = "```python\nimport time\nprint('busy', flush=True)\ntime.sleep(60)\n```"


def test_leases_and_cancels_while_every_worker_is_busy(
    servers: dict[str, object], shape: str
) -> None:
    options = {"workers": 2, "env": {"CMBAGENT_LEASE_SECONDS": "3"}, **servers}
    with Deployment.running(shape, **options) as house:  # type: ignore[arg-type]  # by name
        frozen, watched = house.start_run(BUSY), house.start_run(BUSY)
        queued = house.start_run(BUSY)
        for run in (frozen, watched):
            house.wait_for_output(run, "busy")

        began = time.monotonic()
        assert house.post(f"runs/{queued}/cancel")["status"] == "cancelled"
        house.post(f"runs/{watched}/cancel")
        house.wait_for(watched, "cancelled", within=5)
        assert time.monotonic() - began < 5

        again = house.start_run(BUSY)
        house.wait_for_output(again, "busy")
        house.freeze(house.worker_of(frozen))
        # a lease of 3 s runs out; it is taken back within 5 s more though nobody is idle
        wait_until(
            lambda: house.run(frozen)["status"] == "queued", within=3 + 5, what="the expired lease"
        )
