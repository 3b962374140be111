"""Runs that misbehave end with a clear status, and neither worker nor web grows with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deployment import Deployment

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
MEGABYTE = 2**20
MAX_GROWTH = 150 * MEGABYTE


def block(code: str) -> str:
    return f"```python\n{code}\n```"


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def run_to_end(house: Deployment, code: str, within: float = 240) -> dict[str, Any]:
    """The ended run, with the peak memory of its supervisor's process and of the web process."""
    run = house.start_run(block(code))
    supervisor = house.worker_of(run)
    ended = house.wait_for(run, "completed", "failed", within=within)
    peaks = [peak_memory(pid) for pid in (supervisor, house.processes["web"].pid)]
    return ended | {"peaks": peaks}


def printed(house: Deployment, run: dict[str, Any], stream: str = "stdout") -> str:
    events = house.events_of(run["run_id"])
    output = [event["data"] for event in events if event["event_type"] == "output"]
    return "".join(data["text"] for data in output if data["stream"] == stream)


def test_a_line_of_ten_megabytes(house: Deployment) -> None:
    run = run_to_end(house, "print('x' * 10_000_000)")

    assert run["status"] == "completed"
    assert printed(house, run) == "x" * 10_000_000 + "\n"
    assert max(run["peaks"]) < 300 * MEGABYTE


def test_two_million_lines(house: Deployment) -> None:
    run = run_to_end(house, "import sys\nfor n in range(2_000_000): sys.stdout.write(f'{n}\\n')")

    assert run["status"] == "completed"
    console = house.client.get(f"/api/runs/{run['run_id']}/console").text
    assert console == "".join(f"{n}\n" for n in range(2_000_000))
    assert max(run["peaks"]) < 300 * MEGABYTE


def test_a_result_of_fifty_megabytes(house: Deployment) -> None:
    code = "import json\njson.dump({'x': 'y' * 50_000_000}, open('result.json', 'w'))"

    run = run_to_end(house, code)

    assert run["status"] == "completed"
    assert len(str(run["result"])) < 40_000
    with house.client.stream("GET", f"/api/runs/{run['run_id']}/files/result.json") as answer:
        size = sum(len(chunk) for chunk in answer.iter_bytes())
    assert size == 50_000_000 + len('{"x": ""}')
    assert max(run["peaks"]) < 300 * MEGABYTE


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("print('a\\0b')", "a�b\n"),
        ("print(float('nan'), float('inf'))", "nan inf\n"),
        ("import sys\nsys.stdout.buffer.write(b'\\xff\\xfe\\n')", "\\xff\\xfe\n"),
        (
            "import sys\nsys.stdout.buffer.write('\\ud800'.encode('utf-8', 'surrogatepass'))",
            "\\xed\\xa0\\x80",
        ),
    ],
)
def test_bytes_that_no_database_takes(house: Deployment, code: str, shown: str) -> None:
    run = run_to_end(house, code)

    assert run["status"] == "completed", run
    assert printed(house, run) == shown


def test_a_result_that_is_no_number(house: Deployment) -> None:
    code = "open('result.json', 'w').write('{\"a\": NaN, \"b\": \"\\\\u0000\\\\ud800\"}')"

    run = run_to_end(house, code)

    assert run["status"] == "completed", run


def test_closed_pipes(house: Deployment) -> None:
    code = "import os, time\nprint('before', flush=True)\nos.close(1); os.close(2)\ntime.sleep(0.5)"

    run = run_to_end(house, code)

    assert run["status"] in {"completed", "failed"}, "a closed stdout is the code's own affair"
    assert printed(house, run) == "before\n"


def test_more_output_than_allowed(house: Deployment) -> None:
    code = "import sys\nfor n in range(300): sys.stdout.write('x' * 999_999 + '\\n')"

    run = run_to_end(house, code)

    assert run["status"] == "failed"
    assert "output" in run["error"]["message"]
    kinds = [
        e["data"] for e in house.events_of(run["run_id"]) if e["event_type"] == "code_execution"
    ]
    assert kinds[0]["ended_by"] == "output_limit"
    assert max(run["peaks"]) < 300 * MEGABYTE


def test_a_child_that_ignores_sigterm(house: Deployment) -> None:
    code = (
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\nprint('deaf', flush=True)\n"
        "time.sleep(600)"
    )
    run = house.start_run(block(code))
    house.wait_for_output(run, "deaf")

    stopped = house.post(f"runs/{run}/cancel")

    assert stopped["stopping"]
    assert house.wait_for(run, "cancelled", within=10)["status"] == "cancelled"
    assert not [pid for pid in house.living_processes() if "sleep" in house.title(pid)]


def test_it_kills_itself_again_and_again(house: Deployment) -> None:
    """Code that dies by a SIGKILL from nowhere is an interruption; for ever is a crash loop."""
    run = run_to_end(house, "import os\nos.kill(os.getpid(), 9)")

    assert run["status"] == "failed"
    assert run["error"]["error_type"] == "crash_loop"
    assert run["error"]["retryable"]


def test_a_fault_of_the_supervisor_is_said_not_left_to_the_lease(house: Deployment) -> None:
    """Its folder cannot be made (as on a full disk): the run fails within moments, and says why."""
    session = str(house.post("sessions", {"mode": "one-shot"})["session_id"])
    folder = house.folder / "data" / "sessions" / session
    folder.mkdir(parents=True)
    (folder / "baselines").write_text("a file where a folder belongs")

    run = house.start_run(block("print(1)"), session)

    failed = house.wait_for(run, "failed", within=30)
    assert failed["error"]["error_type"] == "server_storage"
    assert failed["error"]["message"].startswith("The server could not keep the run's files: ")
    assert str(house.folder) not in str(failed["error"]), "no path of the server"
