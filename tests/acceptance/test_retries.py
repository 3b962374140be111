"""A retry goes on from the journal: what succeeded stays, what failed is done again."""

from __future__ import annotations

import pytest

from tests.deployment import Deployment

pytestmark = pytest.mark.acceptance

TASK = """
```python
print("made once")
```
```python
import pathlib
seen = pathlib.Path("seen")
if not seen.exists():
    seen.touch()
    raise SystemExit("not yet")
print("made at last")
```
"""


def test_a_retry_runs_the_block_that_failed_and_no_other(house: Deployment) -> None:
    run = house.start_run(TASK)
    failed = house.wait_for(run, "failed")
    assert failed["error"]["error_type"] == "code_failed"

    house.post(f"runs/{run}/retry")

    completed = house.wait_for(run, "completed")
    printed = [line for line in house.run_lines(run) if line.startswith("made")]
    assert printed == ["made once", "made at last"]
    assert [block["path"] for block in completed["result"]["blocks"]] == [
        "runs/1/block-1.py",
        "runs/1/block-2.py",
    ]
    again = house.post(f"sessions/{failed['session_id']}/runs", {"task": TASK})
    house.wait_for(again["run_id"], "completed")
    assert house.run_lines(again["run_id"])[0].startswith("made once"), "another run remembers none"
