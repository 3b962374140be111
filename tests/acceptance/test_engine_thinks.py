"""One-shot with a model, whole: it errs, reads the error, mends, plots, reports. Two endpoints
that differ in all that the protocol leaves open, both shapes of deployment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cmbagent.agents
from tests.acceptance.thinking import Lab, check_usage, check_whole, dump_of, running_lab
from tests.deployment import Shape, command_line, descendants, find, wait_until
from tests.endpoint import CONTRARY, PLAIN, Personality

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


@pytest.fixture(scope="module", params=[PLAIN, CONTRARY], ids=lambda style: style.model)
def lab(shape: Shape, servers: dict[str, Any], request: pytest.FixtureRequest) -> Iterator[Lab]:
    style: Personality = request.param
    with running_lab(shape, servers, style) as running:
        yield running


@pytest.fixture(autouse=True)
def _anew(lab: Lab) -> Iterator[None]:
    lab.endpoint.forget()
    yield
    lab.endpoint.check()


def test_it_errs_mends_plots_and_reports(lab: Lab) -> None:
    job = lab.start(parts=2, plot=True)

    job.completed()

    check_whole(job)
    files = {f["path"].rpartition("/")[2] for f in lab.house.get(f"runs/{job.run}/files")["files"]}
    assert {f"squares-{job.limit}.png", "block-1.py", "block-2.py", "block-3.py"} <= files
    endings = [event["data"]["exit_code"] for event in job.events("code_execution")]
    assert endings == [1, 0, 0]
    assert "NameError" in lab.house.client.get(f"/api/runs/{job.run}/console").text
    deltas = "".join(event["data"]["content"] for event in job.events("agent_delta"))
    assert job.report() in deltas, "what was said was seen while it was said"


def test_the_researcher_writes_markdown_with_maths(lab: Lab) -> None:
    session = lab.house.post("sessions", {"mode": "one-shot", "config": {"agent": "researcher"}})
    run = lab.house.start_run("Explain the angular power spectrum.", str(session["session_id"]))

    ended = lab.house.wait_for(run, "completed", "failed")

    assert ended["status"] == "completed", ended["error"]
    said = [e for e in lab.house.events_of(run) if e["event_type"] == "agent_message"]
    assert "## the angular power spectrum" in said[-1]["data"]["content"]
    assert "$$ C_\\ell" in said[-1]["data"]["content"]
    assert [r.conversation.role for r in lab.endpoint.requests] == ["researcher"]


def test_prompts_are_known_by_their_hash(lab: Lab) -> None:
    job = lab.start()
    job.completed()
    prompt = Path(cmbagent.agents.__file__).parent / "prompts" / "engineer.md"

    [(hashes,)] = lab.house.query(
        "SELECT prompt_hashes FROM execution_app_run WHERE id = %s", lab.key_of(job.run)
    )

    assert hashlib.sha256(prompt.read_bytes()).hexdigest() in str(hashes)


def test_runs_beside_each_other_do_not_mix(lab: Lab) -> None:
    jobs = [lab.start(parts=2) for _ in range(4)]

    for job in jobs:
        job.completed()
        check_whole(job)


def test_the_key_is_in_the_header_and_nowhere_else(lab: Lab) -> None:
    lab.endpoint.misbehave("unauthorized", number=3, times=1)
    failing = lab.start(seconds=2)
    engine = lab.house.engine_of(failing.run)
    wait_until(lambda: code_of(engine), within=60, what="executed code")
    seen = [engine, *code_of(engine), *find("cmbagent.template")]
    processes = "".join(_shown(pid) for pid in seen)
    failing.failed()
    lab.start().completed()

    haystack = {
        "processes": processes,
        "database": dump_of(lab.house),
        "events": str(failing.events()),
        "log": lab.house.log.read_text(),
        "page": str(lab.house.run(failing.run)),
        "files": _files(lab.house.folder),
    }

    key = lab.endpoint.key
    assert [name for name, text in haystack.items() if key in text] == []
    assert all(request.authorized for request in lab.endpoint.requests)
    assert "PATH=" in processes, "environments were read"
    assert failing.words in haystack["database"]
    assert "sum_of_squares" in haystack["files"]


def code_of(engine: int) -> list[int]:
    return [pid for pid in descendants([engine]) if "block-" in command_line(pid)]


def _shown(pid: int) -> str:
    """What anybody with the same user may read of a process."""
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace") + command_line(pid)
    except OSError:
        return ""


def _files(folder: Path) -> str:
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return "".join(path.read_bytes().decode("latin-1") for path in found)


def test_usage_outlives_a_run_that_failed(lab: Lab) -> None:
    lab.endpoint.misbehave("quota", number=3)
    job = lab.start()

    job.failed()

    assert [row[:2] for row in job.usage()] == [(100, 11), (200, 12)]
    lab.endpoint.faults.clear()
    lab.house.post(f"runs/{job.run}/retry")
    job.completed()
    check_usage(job)
    assert job.asked() == [1, 2, 3, 3]
