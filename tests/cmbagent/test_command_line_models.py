"""`python -m cmbagent` with a model behind HTTP."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent.terminal import running
from cmbagent.terminal.command import main
from tests.cmbagent.command_line import calls_in, cmbagent, environment, events, journal_text
from tests.cmbagent.supervision import fenced
from tests.endpoint import Endpoint, sum_of_squares, task_of


@pytest.fixture(scope="module")
def served() -> Iterator[Endpoint]:
    with Endpoint.running() as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(served: Endpoint) -> Iterator[Endpoint]:
    yield served
    served.forget()


def test_the_model_of_whoever_does_the_task_is_named(folder: Path, endpoint: Endpoint) -> None:
    settings = endpoint.environment
    settings["CMBAGENT_MODEL_ENGINEER"] = settings.pop("CMBAGENT_MODEL")
    done = cmbagent(folder, task_of(7), "--work-dir", "w", **settings)
    assert done.returncode == 0, done.stderr
    assert f"Model {endpoint.style.model}." in done.stderr
    assert "No AI" not in done.stdout + done.stderr
    begun = [line for line in journal_text(folder / "w").splitlines() if '"t":"start"' in line]
    assert [json.loads(line)["model"] for line in begun] == [endpoint.style.model]


def test_a_proxy_is_not_asked_for_a_server_of_this_machine(
    folder: Path, endpoint: Endpoint
) -> None:
    """Neither would it find that server, nor is the key for it."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        ways = {"HTTP_PROXY": address, "all_proxy": address, "NO_PROXY": "intranet"}
        done = cmbagent(folder, task_of(9), "--work-dir", "w", **endpoint.environment, **ways)
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert done.returncode == 0, done.stderr


def test_a_researchers_report_is_a_file_of_the_task(folder: Path, endpoint: Endpoint) -> None:
    words = ["Explain the BAO scale.", "--work-dir", "w", "--config", '{"agent": "researcher"}']
    done = cmbagent(folder, *words, "--json", **endpoint.environment)
    assert done.returncode == 0, done.stderr
    assert events(done.stdout)[-1]["data"]["files"] == ["runs/1/report.md"]
    again = cmbagent(folder, *words, **endpoint.environment)
    assert "The files are in" in again.stderr
    report = (folder / "w/files/runs/1/report.md").read_text(encoding="utf-8")
    assert again.stdout.strip() == report.strip()


def test_a_model_writes_code_mends_it_and_reports(folder: Path, endpoint: Endpoint) -> None:
    task = task_of(30, parts=2, plot=True)
    done = cmbagent(folder, task, "--work-dir", "w", **endpoint.environment)
    assert done.returncode == 0, done.stderr
    assert str(sum_of_squares(30)) in done.stdout.splitlines()[-1]
    assert "NameError" in done.stderr
    assert "squares-30.png" in done.stderr
    assert f"{endpoint.style.model}: 4 calls" in done.stderr
    assert "cost unknown" in done.stderr
    assert "No AI" not in done.stdout + done.stderr


def test_a_price_makes_the_cost_known(folder: Path, endpoint: Endpoint) -> None:
    prices = {"CMBAGENT_MODEL_PRICES": f"{endpoint.style.model}=1000/1000"}
    settings = {**endpoint.environment, **prices}
    done = cmbagent(folder, task_of(8), "--work-dir", "w", "--json", **settings)
    finished = events(done.stdout)[-1]["data"]
    updates = [e["data"] for e in events(done.stdout) if e["event_type"] == "cost_update"]
    assert finished["cost_usd"] == pytest.approx(updates[-1]["total_cost_usd"])
    assert finished["cost_usd"] > 0


def test_what_is_forgotten_was_paid(folder: Path, endpoint: Endpoint) -> None:
    """A journal that does not fit is gone on with from before; its calls stay in the costs."""
    prices = {"CMBAGENT_MODEL_PRICES": f"{endpoint.style.model}=1000/1000"}
    words = [task_of(17), "--work-dir", "w", "--json"]
    settings = {**endpoint.environment, **prices}
    first = cmbagent(folder, *words, **settings)
    alter_last_model_call(folder / "w/journal.jsonl")
    misfit = cmbagent(folder, *words, **settings)
    assert events(misfit.stdout)[-1]["data"]["error_type"] == "journal_mismatch"
    last = cmbagent(folder, *words, **settings)
    paid = [update["cost_usd"] for update in updates(first) + updates(last)]
    assert len(paid) == len(endpoint.requests)
    assert updates(last), "a call was made again"
    assert updates(last)[-1]["total_cost_usd"] == pytest.approx(sum(paid))
    assert events(last.stdout)[-1]["data"]["cost_usd"] == pytest.approx(sum(paid))


def alter_last_model_call(journal: Path) -> None:
    """As if another program had made it, and had been killed after it."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    last = max(at for at, line in enumerate(lines) if line.get("kind") == "model")
    lines[last]["digest"] = "of another request"
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines[: last + 1]))


def updates(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [e["data"] for e in events(done.stdout) if e["event_type"] == "cost_update"]


def test_postponed_is_exit_75_and_the_next_start_goes_on(folder: Path, endpoint: Endpoint) -> None:
    endpoint.misbehave("rate_limited", number=2, times=1)
    task = task_of(12)
    later = cmbagent(folder, task, "--work-dir", "w", **endpoint.environment)
    assert later.returncode == 75
    assert "Waiting until" in later.stderr
    assert "UTC" in later.stderr
    done = cmbagent(folder, task, "--work-dir", "w", **endpoint.environment)
    assert done.returncode == 0
    assert len(endpoint.requests) == calls_in(folder / "w") + 1


def test_it_waits_itself_when_told_so(folder: Path, endpoint: Endpoint) -> None:
    endpoint.misbehave("rate_limited", number=2, times=1)
    done = cmbagent(folder, task_of(13), "--work-dir", "w", "--wait", **endpoint.environment)
    assert done.returncode == 0, done.stderr
    assert "Waiting until" in done.stderr


@pytest.mark.parametrize(("times", "status"), [(10, 0), (11, 1)])
def test_it_gives_up_when_the_server_would(
    folder: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, times: int, status: int
) -> None:
    monkeypatch.setattr(running, "seconds_to_wait", lambda *_: 0.0)
    endpoint.misbehave("rate_limited", number=2, times=times)
    words = [task_of(20 + times), "--work-dir", str(folder / "w"), "--wait"]
    assert main(words, environment(**endpoint.environment)) == status


def test_code_that_is_killed_each_time_is_given_up_when_the_server_would(folder: Path) -> None:
    task = fenced("import os\nopen('tries', 'a').write('x')\nos.kill(os.getpid(), 9)")
    failed = cmbagent(folder, task, "--work-dir", "w", CMBAGENT_SANDBOX="3")
    assert failed.returncode == 1
    assert "killed from outside 6 times in a row" in failed.stderr
    assert len((folder / "w/files/tries").read_text()) == 6


def test_a_wrong_key_is_a_sentence_without_the_key(folder: Path, endpoint: Endpoint) -> None:
    endpoint.misbehave("unauthorized")
    failed = cmbagent(folder, task_of(14), "--work-dir", "w", **endpoint.environment)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert endpoint.key not in failed.stderr + failed.stdout + journal_text(folder / "w")
