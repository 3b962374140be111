"""Deployments whose engines think with a local endpoint, and what must hold of a run that did."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.acceptance.kills import attempts_of
from tests.deployment import Deployment, Shape
from tests.endpoint import (
    CONTRARY,
    PLAIN,
    Endpoint,
    Personality,
    calls_for,
    sum_of_squares,
    task_of,
)

TIMEOUT_SECONDS = 3
PRICES = (Decimal(2), Decimal(10))  # of a model that has any, USD per million tokens in and out
PAIRINGS: dict[str, dict[Shape, Personality]] = {
    "paired": {"embedded": PLAIN, "production": CONTRARY},
    "swapped": {"embedded": CONTRARY, "production": PLAIN},
}
LIMITS = itertools.count(1001)  # each run has a limit of its own: it tells its requests apart


@dataclass
class Lab:
    """An installation and the endpoint that its engines call."""

    house: Deployment
    endpoint: Endpoint
    is_priced: bool  # what the model costs is known

    def start(self, *, parts: int = 1, plot: bool = False, seconds: float = 0) -> Job:
        limit = next(LIMITS)
        task = task_of(limit, parts=parts, plot=plot, seconds=seconds)
        return Job(self, self.house.start_run(task), limit, parts)

    def key_of(self, identifier: str) -> str:
        """As the database has it: SQLite keeps no dashes."""
        return identifier.replace("-", "") if self.house.shape == "embedded" else identifier


@dataclass(frozen=True)
class Row:
    """One entry of a journal, as it is in the database."""

    id: int
    key: str
    kind: str
    payload: str


@dataclass(frozen=True)
class Job:
    """A run of the engineer's task."""

    lab: Lab
    run: str
    limit: int
    parts: int

    @property
    def words(self) -> str:
        return f"numbers up to {self.limit} in"

    @property
    def calls(self) -> int:
        """Model calls that it takes when nothing comes in between."""
        return calls_for(self.parts, parallel=self.lab.endpoint.style.parallel_calls)

    @property
    def executions(self) -> int:
        return self.parts + 1  # the first one twice: it has a mistake

    def asked(self) -> list[int]:
        """Numbers of its requests in their conversation, in the order of arrival."""
        return [r.conversation.number for r in self.lab.endpoint.requests_about(self.words)]

    def wait(self, *statuses: str, within: float = 120) -> dict[str, Any]:
        return self.lab.house.wait_for(self.run, *(statuses or ("completed",)), within=within)

    def end(self, within: float = 120) -> dict[str, Any]:
        """The run, once it ended in any way."""
        return self.wait("completed", "failed", "cancelled", within=within)

    def completed(self, within: float = 120) -> dict[str, Any]:
        ended = self.end(within)
        assert ended["status"] == "completed", ended["error"]
        return ended

    def failed(self, within: float = 120) -> dict[str, Any]:
        """Its error."""
        ended = self.end(within)
        assert ended["status"] == "failed", ended
        error: dict[str, Any] = ended["error"]
        return error

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        events = self.lab.house.events_of(self.run)
        return [e for e in events if not kinds or e["event_type"] in kinds]

    def journal(self, kind: str = "") -> list[Row]:
        rows = self.lab.house.query(
            "SELECT id, key, kind, payload FROM execution_app_journalentry"
            " WHERE run_id = %s ORDER BY id",
            self.lab.key_of(self.run),
        )
        return [row for row in itertools.starmap(Row, rows) if kind in {"", row.kind}]

    def usage(self) -> list[tuple[int, int, Decimal | None]]:
        """Tokens in, tokens out and cost, per model call."""
        rows = self.lab.house.query(
            "SELECT input_tokens, output_tokens, cost_usd FROM execution_app_usage"
            " WHERE run_id = %s ORDER BY id",
            self.lab.key_of(self.run),
        )
        return [(i, o, None if c is None else Decimal(str(c))) for i, o, c in rows]

    def printed(self) -> list[str]:
        """Tickets of all executions that there ever were, acknowledged or not."""
        console = self.lab.house.client.get(f"/api/runs/{self.run}/console").text
        return re.findall(r"ticket ([0-9a-f]{12})", console)

    def tickets(self) -> list[str]:
        """What its code printed in executions that are acknowledged, by the journal."""
        payloads = [row.payload for row in self.journal("execution")]
        return [t for payload in payloads for t in re.findall(r"ticket ([0-9a-f]{12})", payload)]

    def report(self) -> str:
        """The one message that has the result."""
        said = [e["data"]["content"] for e in self.events("agent_message")]
        reports = [text for text in said if "The sum of the squares up to" in text]
        assert len(reports) == 1, f"the report was given {len(reports)} times: {said}"
        return str(reports[0])


@contextmanager
def running_lab(
    shape: Shape,
    servers: dict[str, Any],
    style: Personality = PLAIN,
    *,
    priced: Collection[Personality] = (PLAIN,),
    workers: int = 4,
    **env: str,
) -> Iterator[Lab]:
    with Endpoint.running(style) as endpoint:
        prices = ",".join(f"{each.model}={PRICES[0]}/{PRICES[1]}" for each in priced)
        env = {
            **endpoint.environment,
            "CMBAGENT_MODEL_TIMEOUT": str(TIMEOUT_SECONDS),
            "CMBAGENT_MODEL_PRICES": prices,
            **env,
        }
        with Deployment.running(shape, workers=workers, env=env, **servers) as house:
            yield Lab(house, endpoint, is_priced=style in priced)


# -- what must hold ---------------------------------------------------------------------------
def check_whole(job: Job, *, kills: int = 0) -> None:
    """Result, log, journal, usage and requests of a completed run, killed so often."""
    check_report(job)
    check_story(job)
    check_usage(job)
    asked = job.asked()
    assert set(asked) == set(range(1, job.calls + 1)), asked
    assert len(asked) <= job.calls + kills, f"{len(asked)} requests, {kills} kills: {asked}"
    printed = job.printed()
    assert len(printed) <= job.parts + kills, f"{len(printed)} executions, {kills} kills"


def check_report(job: Job) -> None:
    """It cites the sum and the tickets that the acknowledged executions printed, no others."""
    report = job.report()
    assert f"**{sum_of_squares(job.limit)}**" in report
    cited = re.findall(r"\b[0-9a-f]{12}\b", report.partition("Tickets:")[2])
    assert len(cited) == job.parts
    assert sorted(cited) == sorted(job.tickets())
    assert set(cited) <= set(job.printed())


def check_story(job: Job) -> None:
    """Each finished call was told once, the run was completed once."""
    kinds = [event["event_type"] for event in job.events()]
    assert kinds.count("run_completed") == 1
    assert kinds[-1] == "run_completed"
    executions = job.journal("execution")
    assert len(executions) == job.executions, [row.key for row in executions]
    assert kinds.count("code_execution") == len(executions)
    keys = [row.key for row in job.journal()]
    assert len(keys) == len(set(keys))
    started = attempts_of(job.events())[-1][0]["data"]
    assert started["model"] == job.lab.endpoint.style.model


def check_usage(job: Job) -> None:
    """One row per journalled model call, with what the endpoint said of it; sums are exact."""
    usage, calls = job.usage(), job.journal("model")
    assert len(usage) == len(calls) == job.calls
    assert [row[:2] for row in usage] == [(100 * n, 10 + n) for n in range(1, job.calls + 1)]
    run = job.lab.house.run(job.run)
    assert run["total_tokens"] == sum(i + o for i, o, _ in usage)
    announced = [e["data"] for e in job.events("cost_update")]
    assert len(announced) == job.calls
    if not job.lab.is_priced:
        assert [cost for _, _, cost in usage] == [None] * job.calls, "unknown is not 0"
        assert run["cost_usd"] is None
        return
    costs = [(i * PRICES[0] + o * PRICES[1]) / 10**6 for i, o, _ in usage]
    assert [cost for _, _, cost in usage] == costs
    assert Decimal(str(run["cost_usd"])) == sum(costs)
    assert abs(Decimal(str(announced[-1]["total_cost_usd"])) - sum(costs)) < Decimal("1e-9")


def check_totals(job: Job) -> None:
    """Whoever tells what a run cost tells the same: all calls that were paid, also forgotten ones.
    None when the price of one is not known."""
    costs = [cost for _, _, cost in job.usage()]
    known = [cost for cost in costs if cost is not None]
    completed = job.events("run_completed")[0]["data"]
    told = {
        job.events("cost_update")[-1]["data"]["total_cost_usd"],
        job.lab.house.get(f"runs/{job.run}/costs")["total_cost_usd"],
        completed["cost_usd"],
    }
    assert told == {float(sum(known)) if known == costs else None}
    assert f"{len(costs)} rounds" in completed["summary"]


@dataclass(frozen=True)
class Memory:
    """What was acknowledged at one moment, by the database."""

    at: float
    keys: set[str]
    calls: int  # of models
    tickets: list[str]

    @classmethod
    def of(cls, job: Job) -> Memory:
        tickets, rows = job.tickets(), job.journal()
        at = time.monotonic()  # after: a first request may come and be acknowledged meanwhile
        calls = sum(row.kind == "model" for row in rows)
        return cls(at, {row.key for row in rows}, calls, tickets)


def check_not_repeated(job: Job, memory: Memory) -> None:
    """Nothing that was acknowledged then was requested or executed again."""
    later = [r for r in job.lab.endpoint.requests_about(job.words) if r.at > memory.at]
    again = [r.conversation.number for r in later if r.conversation.number <= memory.calls]
    assert not again, f"requests {again} again though {memory.calls} calls were acknowledged"
    assert memory.keys <= {row.key for row in job.journal()}
    assert all(ticket in job.report() for ticket in memory.tickets)


def dump_of(house: Deployment) -> str:
    """Every row of every table, as text."""
    if house.shape == "embedded":
        tables = house.query("SELECT name FROM sqlite_master WHERE type = 'table'")
    else:
        tables = house.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [house.query(f'SELECT * FROM "{name}"') for (name,) in tables]
    return json.dumps(rows, default=str)
