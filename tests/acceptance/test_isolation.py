"""Twenty runs provably alive at one instant: no foreign line in any log, none missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deployment import Deployment, find, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]
RUNS = 20
CODE = """```python
import os, sys, time
me, folder = {me}, {folder!r}
for n in range(50):
    print(f"run {{me}} line {{n}}")
print(f"run {{me}} is alive")
others = [f"{{folder}}/{{n}}" for n in range({runs})]
while not all(os.path.exists(other) for other in others):
    time.sleep(0.05)
print(f"run {{me}} has seen all")
```"""


def test_twenty_at_one_instant(servers: dict[str, object], shape: str, tmp_path: Path) -> None:
    """A run goes on only when it has seen a marker of each other; the test sets a run's marker
    once the run's own log says that it is alive (runs cannot tell each other anything)."""
    tmp_path.chmod(0o755)
    options = {"workers": RUNS, "env": {"CMBAGENT_DATA_ROOTS": str(tmp_path)}, **servers}
    with Deployment.running(shape, **options) as house:  # type: ignore[arg-type]  # by name
        tasks = [CODE.format(me=n, folder=str(tmp_path), runs=RUNS) for n in range(RUNS)]
        runs = [house.start_run(task) for task in tasks]
        for n, run in enumerate(runs):
            house.wait_for_output(run, f"run {n} is alive", within=120)
        assert {house.run(run)["status"] for run in runs} == {"running"}

        for n in range(RUNS):
            (tmp_path / str(n)).touch()
        for n, run in enumerate(runs):
            house.wait_for(run, "completed", within=60)
            console = house.client.get(f"/api/runs/{run}/console").text
            expected = [f"run {n} line {i}" for i in range(50)]
            expected += [f"run {n} is alive", f"run {n} has seen all"]
            assert console.splitlines() == expected
        for run in runs:
            assert is_over(run), "its engine is gone"


def is_over(run: str) -> bool:
    return wait_until(lambda: not find(f"cmbagent engine {run}"), within=10, what="its end")
