"""Whatever is called worth a retry: a retry when the cause is gone ends otherwise."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import ModelMessage
from pydantic_ai import exceptions as library
from pydantic_ai.models.function import AgentInfo, DeltaToolCall

from cmbagent import errors, wire, workdir
from cmbagent.agents import conversation
from cmbagent.driver import outcome_of
from cmbagent.errors import EngineError
from cmbagent.models import failures
from cmbagent.models.registry import ModelNotInstalled, builder_for
from tests.cmbagent import supervision
from tests.cmbagent.in_process import Book, Script, run_with
from tests.cmbagent.supervision import fenced, sandbox


class Raising(Script):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        self.asked.append(messages)
        if self.asked:
            raise self.error
        yield ""


class NotInstalled(Script):
    def speaks_in(self, patch: pytest.MonkeyPatch) -> Script:
        patch.setattr(conversation, "build_model", lambda spec, run: builder_for("elsewhere"))
        return self


def raising(kind: type[Exception]) -> Raising:
    return Raising(kind.__new__(kind))


@dataclass
class Case:
    """What is in the way at first; then it is not."""

    error: type[EngineError]
    model: Script
    then: Script
    start: dict[str, Any] = field(default_factory=dict)  # while it is in the way
    always: dict[str, Any] = field(default_factory=dict)
    full_disk: bool = False

    @property
    def error_type(self) -> str:
        return self.error.error_type

    def obstructed(self, patch: pytest.MonkeyPatch) -> None:
        if "models" not in self.always:
            self.model.speaks_in(patch)
        if self.full_disk:
            patch.setattr(workdir, "write_new", full)

    def cleared(self, patch: pytest.MonkeyPatch) -> None:
        if "models" not in self.always:
            self.then.speaks_in(patch)


CODE = {"run_python": {"code": "print(1)"}}
FAILS = {"run_python": {"code": "1 / 0"}}
GARBAGE = {"read_file": {"path": 3}}
NONE = {**sandbox(), "level": None}
NO_AI = {"models": {"default": supervision.NO_MODEL}}
ONLY_ONCE = "import os\nif not os.path.exists('seen'): open('seen', 'w'); 1 / 0"


def works() -> Script:
    return Script("Done.")


def runs_code() -> Script:
    return Script(CODE, "Done.")


CASES = [
    Case(failures.ModelRateLimited, raising(library.ModelRateLimitError), works()),
    Case(failures.ModelOverloaded, raising(library.ModelUnavailableError), works()),
    Case(failures.ModelServerError, raising(library.ModelServerError), works()),
    Case(failures.ModelTimeout, raising(library.ModelTimeoutError), works()),
    Case(failures.ModelUnreachable, raising(library.ModelConnectionError), works()),
    Case(failures.ModelTalksOn, raising(library.ModelRequestTimeout), works()),
    Case(failures.ModelAnswerInvalid, raising(library.UnexpectedModelBehavior), works()),
    Case(failures.ModelAnswerInvalid, Script("", "", "", ""), works()),
    Case(failures.ModelAnswerInvalid, Script(*[GARBAGE] * 4), works()),
    Case(ModelNotInstalled, NotInstalled(), works()),
    Case(
        errors.RoundsExhausted,
        Script(*[{"list_files": {}}] * 2),
        works(),
        always={"config": {"maxRounds": 2}},
    ),
    Case(
        errors.AttemptsExhausted,
        Script(FAILS),
        runs_code(),
        always={"config": {"maxAttempts": 1}},
    ),
    Case(errors.SandboxUnavailable, runs_code(), runs_code(), start={"sandbox": NONE}),
    Case(errors.EnvironmentFailed, runs_code(), runs_code(), start={"science_env": "/nowhere"}),
    Case(errors.WorkDirectoryUnusable, runs_code(), runs_code(), full_disk=True),
    Case(errors.CodeFailed, works(), works(), always={**NO_AI, "task": fenced("1", ONLY_ONCE)}),
    Case(errors.InternalError, Raising(ValueError("a defect")), works()),
]


def kinds(kind: type[EngineError]) -> Iterator[type[EngineError]]:
    for child in kind.__subclasses__():
        yield child
        yield from kinds(child)


def forgotten(entries: list[wire.Entry], key: str | None) -> list[wire.Entry]:
    """As a retry does it."""
    if key is None:
        return entries
    at = [entry["key"] for entry in entries].index(key)
    return [entry for entry in entries[:at] if not entry["key"].startswith(f"{key}/")]


def _of_an_engine(kind: type[EngineError]) -> bool:
    """The terminal, whose errors are there when its tests ran before, is started again instead."""
    package = kind.__module__.split(".")[:2]
    return package[0] == "cmbagent" and package != ["cmbagent", "terminal"]


def test_no_error_that_may_be_retried_is_forgotten() -> None:
    ours = {kind for kind in kinds(EngineError) if _of_an_engine(kind)}
    with_a_test_below = {errors.JournalMismatch}
    assert {kind for kind in ours if kind.retryable} == {
        case.error for case in CASES
    } | with_a_test_below


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{CASES.index(case)}-{case.error_type}")
async def test_a_retry_ends_otherwise(
    case: Case, work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        case.obstructed(patch)
        first = Book()
        run = run_with(first, work_dir=work_dir, **{**case.always, **case.start})
        outcome = await outcome_of(run)
    assert outcome["kind"] in {"failed", "postponed"}
    assert outcome["error"]["error_type"] == case.error_type
    assert outcome["error"]["retryable"]
    case.cleared(monkeypatch)
    kept = forgotten(first.entries, outcome["error"].get("key"))
    outcome = await outcome_of(run_with(Book(kept), work_dir=work_dir, **case.always))
    assert outcome["kind"] == "completed", outcome


@pytest.mark.parametrize("count", range(2, 5))
async def test_a_retry_of_a_mismatch_goes_on_from_there(
    count: int, work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Script({"list_files": {}}, "Done.").speaks_in(monkeypatch)
    first = Book()
    await outcome_of(run_with(first, work_dir=work_dir, task="A task."))
    known = first.entries[:count]
    outcome = await outcome_of(run_with(Book(known), work_dir=work_dir, task="Another."))
    assert outcome["error"]["error_type"] == "journal_mismatch"
    kept = forgotten(known, outcome["error"]["key"])
    outcome = await outcome_of(run_with(Book(kept), work_dir=work_dir, task="Another."))
    assert outcome["kind"] == "completed", outcome


def full(*args: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
