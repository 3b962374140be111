"""A host that is gone, with everything on it: another takes its runs over by their leases."""

from __future__ import annotations

import signal
import time

import pytest

from tests.acceptance.kills import TASK, check_log
from tests.deployment import Deployment
from tests.servers import PostgreSQL, Redis

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]
LEASE_SECONDS = 3


def test_another_host_takes_over(postgres: PostgreSQL, redis: Redis) -> None:
    options = {"postgres": postgres, "redis": redis, "workers": 2}
    lease = {"CMBAGENT_LEASE_SECONDS": str(LEASE_SECONDS)}
    with Deployment.running("production", env=lease, **options) as house:
        runs = [house.start_run(TASK.replace("0.025", "0.5")) for _ in range(2)]
        for run in runs:
            house.wait_for_output(run, "line 3")
        house.start_other_host()
        time.sleep(LEASE_SECONDS + 2)

        house.kill("workers")  # and by the kernel all that it had started

        for run in runs:
            house.wait_for(run, "completed", within=90)
            events = house.events_of(run)
            check_log(events)
            reasons = [e["data"]["reason"] for e in events if e["event_type"] == "run_recovered"]
            assert reasons == ["lease_expired"]


def test_draining_hands_over_without_a_crash(postgres: PostgreSQL, redis: Redis) -> None:
    with Deployment.running("production", postgres=postgres, redis=redis) as house:
        run = house.start_run(TASK.replace("0.025", "0.5"))
        house.wait_for_output(run, "line 3")
        house.start_other_host()
        began = time.monotonic()

        house.kill("workers", signal.SIGTERM)  # SIGTERM: the run goes back to the queue

        assert time.monotonic() - began < 20
        house.wait_for(run, "completed", within=90)
        events = house.events_of(run)
        check_log(events)
        reasons = [e["data"]["reason"] for e in events if e["event_type"] == "run_recovered"]
        assert reasons == ["worker_drained"]
        assert house.query("SELECT crashes FROM execution_app_run WHERE id = %s", run) == [(0,)]
