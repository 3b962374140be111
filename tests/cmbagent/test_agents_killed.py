"""Agents in real engines, with a model behind HTTP: whole, and killed at any moment."""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cmbagent import wire
from tests.cmbagent.supervision import Heard, Supervisor, gone, run
from tests.endpoint import CONTRARY, PLAIN, Endpoint, calls_for, sum_of_squares, task_of

LIMIT, PARTS = 30, 2
TASK = task_of(LIMIT, parts=PARTS, plot=True)


@pytest.fixture(scope="module", params=[PLAIN, CONTRARY], ids=["plain", "contrary"])
def provider(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    with Endpoint.running(request.param) as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(provider: Endpoint) -> Iterator[Endpoint]:
    provider.forget()
    yield provider
    provider.check()


def models(endpoint: Endpoint, **changes: Any) -> dict[str, Any]:
    spec = {
        "provider": "openai",
        "name": endpoint.style.model,
        "base_url": endpoint.url,
        "api_key": endpoint.key,
        "timeout_s": 20.0,
        "input_price": 1.0,
        "output_price": 2.0,
    }
    return {"default": spec | changes}


def calls(endpoint: Endpoint) -> int:
    return calls_for(PARTS, parallel=endpoint.style.parallel_calls)


def tickets_in(entries: Sequence[wire.Entry]) -> list[str]:
    """What acknowledged executions printed."""
    payloads = [json.dumps(e["payload"]) for e in entries if e["kind"] == "execution"]
    return [ticket for text in payloads for ticket in re.findall(r"ticket ([0-9a-f]{12})", text)]


def usage_of(entries: Sequence[wire.Entry]) -> list[tuple[int, int]]:
    usages = [entry["usage"] for entry in entries if entry["usage"]]
    return [(usage["input_tokens"], usage["output_tokens"]) for usage in usages]


# -- whole --------------------------------------------------------------------------------------
def test_an_engineer_errs_mends_and_reports(work_dir: Path, endpoint: Endpoint) -> None:
    heard = run(work_dir, TASK, models=models(endpoint))
    assert heard.outcome["kind"] == "completed", heard.outcome
    result = heard.outcome["result"]
    assert f"**{sum_of_squares(LIMIT)}**" in result["answer"]
    assert [block["exit_code"] for block in result["blocks"]] == [1, 0, 0]
    assert result["files"] == [f"squares-{LIMIT}.png"]
    assert (work_dir / f"squares-{LIMIT}.png").exists()
    rounds = f"{calls(endpoint)} rounds"
    assert all(word in heard.outcome["summary"] for word in (endpoint.style.model, rounds, "$0.0"))
    assert "AI" not in heard.outcome["summary"]
    deltas = "".join(data["content"] for data in heard.events("agent_delta"))
    assert heard.events("agent_message")[-1]["content"] in deltas
    assert endpoint.key not in str(heard)


def test_a_researcher_leaves_a_report(work_dir: Path, endpoint: Endpoint) -> None:
    config = {"agent": "researcher"}
    heard = run(work_dir, "Explain the BAO scale.", config=config, models=models(endpoint))
    assert heard.outcome["result"]["files"] == ["runs/1/report.md"]
    text = (work_dir / "runs/1/report.md").read_text(encoding="utf-8")
    assert text.startswith("## the BAO scale")
    assert "$$ C_\\ell" in text
    assert heard.events("agent_message") == [
        {"agent": "researcher", "role": "assistant", "content": text}
    ]
    without = run(work_dir, "Explain the BAO scale.", config=config, journal=heard.entries[:-1])
    assert without.outcome == heard.outcome, "who answered is in the journal, not in the settings"
    again = run(work_dir, "Explain the BAO scale.", config=config, journal=heard.entries)
    assert again.outcome == heard.outcome
    assert again.kinds() == ["outcome"]


def test_rounds_that_are_used_up_leave_what_was_made(work_dir: Path, endpoint: Endpoint) -> None:
    heard = run(work_dir, TASK, config={"maxRounds": 2}, models=models(endpoint))
    assert heard.error["error_type"] == "rounds_exhausted"
    assert "runs/1/block-1.py" in heard.error["message"]
    assert "maxRounds" in heard.error["suggestion"]
    assert len(endpoint.requests) == 2
    assert "last round" in endpoint.requests[1].conversation.system


def test_a_model_that_is_busy_postpones_the_run(work_dir: Path, endpoint: Endpoint) -> None:
    endpoint.misbehave("rate_limited", number=2, times=1, seconds=7)
    heard = run(work_dir, TASK, models=models(endpoint))
    assert (heard.outcome["kind"], heard.outcome["retry_after_s"]) == ("postponed", 7)
    assert heard.outcome["error"]["error_type"] == "model_rate_limited"
    again = run(work_dir, TASK, models=models(endpoint), journal=heard.entries)
    assert again.outcome["kind"] == "completed"
    assert len(endpoint.requests) == calls(endpoint) + 1


# -- killed -------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_nothing_finished_is_done_again(
    work_dir: Path, endpoint: Endpoint, seed: int
) -> None:
    dice = random.Random(seed)
    journal: list[wire.Entry] = []
    kills = 0
    while True:
        asked_before = len(endpoint.requests)
        heard = _attempt(work_dir, endpoint, journal, dice.randint(1, 12), attempt=kills + 1)
        finished = sum(entry["kind"] == "model" for entry in journal)
        numbers = [r.conversation.number for r in endpoint.requests[asked_before:]]
        assert all(number > finished for number in numbers), "a finished call was made again"
        journal += heard.entries
        if heard.messages and heard.messages[-1]["t"] == "outcome":
            break
        kills += 1
    assert heard.outcome["kind"] == "completed", heard.outcome
    assert kills
    assert len(endpoint.requests) <= calls(endpoint) + kills
    keys = [entry["key"] for entry in journal]
    assert len(keys) == len(set(keys))
    assert sorted(re.findall(r"\b[0-9a-f]{12}\b", heard.outcome["result"]["answer"])) == sorted(
        tickets_in(journal)
    )
    assert usage_of(journal) == [(100 * n, 10 + n) for n in range(1, calls(endpoint) + 1)]


def _attempt(
    work_dir: Path, endpoint: Endpoint, journal: list[wire.Entry], kill_after: int, attempt: int
) -> Heard:
    """Killed after so many messages, if it does not end before; what was acknowledged."""
    with Supervisor(work_dir) as supervisor:
        supervisor.begin(TASK, journal=journal, models=models(endpoint), attempt=attempt)
        for number, _ in enumerate(supervisor.messages(), start=1):
            if number == kill_after:
                os.killpg(supervisor.process.pid, signal.SIGKILL)
                break
    return supervisor.heard


def test_killed_between_the_answer_and_its_acknowledgement_one_request_is_repeated(
    work_dir: Path, endpoint: Endpoint
) -> None:
    with Supervisor(work_dir) as supervisor:
        supervisor.begin(TASK, models=models(endpoint))
        supervisor.until("tool_call")
        supervisor.acknowledges = False
        supervisor.until("cost_update")
        supervisor.process.kill()
        journal = supervisor.heard.entries[:-1]
    asked = len(endpoint.requests)
    heard = run(work_dir, TASK, models=models(endpoint), journal=journal)
    assert heard.outcome["kind"] == "completed"
    assert len(endpoint.requests) == calls(endpoint) + 1
    assert endpoint.requests[asked].digest == endpoint.requests[asked - 1].digest


def test_stopped_while_its_code_runs_the_code_is_gone(work_dir: Path, endpoint: Endpoint) -> None:
    task = task_of(LIMIT, seconds=60)
    with Supervisor(work_dir) as supervisor:
        supervisor.begin(task, models=models(endpoint))
        supervisor.until("phase_changed")
        supervisor.process.terminate()
        supervisor.until_the_end()
        assert gone(supervisor.process.pid)
