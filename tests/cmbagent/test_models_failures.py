"""Every way in which a model can fail becomes a sentence for a person, and never shows the key."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from pydantic_ai import Agent, exceptions

from cmbagent.errors import EngineError, NotApproved, Postponed
from cmbagent.models import failures
from cmbagent.models.building import connected_model
from cmbagent.models.choosing import choose_models
from cmbagent.models.failures import HIDDEN, MAX_QUOTED, redacted, translate
from cmbagent.wire import ModelSpec
from tests.endpoint import Endpoint

KEY = "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z"
TASK = "Explain the horizon problem."

Ask = Callable[[Agent], Any]


def spec_of(endpoint: Endpoint, **other: str) -> ModelSpec:
    return choose_models(endpoint.environment | {"CMBAGENT_MODEL_TIMEOUT": "0.5"} | other, {})[
        "default"
    ]


@asynccontextmanager
async def entered(spec: ModelSpec) -> AsyncIterator[Agent]:
    async with Agent(connected_model(spec)) as agent:
        yield agent


async def whole(agent: Agent) -> str:
    return str((await agent.run(TASK)).output)


async def streamed(agent: Agent) -> str:
    async with agent.run_stream(TASK) as result:
        return str(await result.get_output())


async def failure_of(spec: ModelSpec, ask: Ask) -> EngineError | Postponed:
    async with entered(spec) as agent:
        with pytest.raises((exceptions.AgentRunError, httpx2.TransportError)) as raised:
            await ask(agent)
    told = translate(raised.value, spec)
    assert told is not None, repr(raised.value)
    return told


@pytest.fixture(params=[whole, streamed])
def ask(request: pytest.FixtureRequest) -> Ask:
    asking: Ask = request.param
    return asking


# -- from a provider that misbehaves ------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "error_type", "wait"),
    [
        ("rate_limited", "model_rate_limited", 7.0),
        ("rate_limited_silent", "model_rate_limited", None),
        ("server_error", "model_server_error", None),
        ("overloaded", "model_overloaded", None),
        ("silent", "model_timeout", None),
        ("stalled", "model_timeout", None),
        ("cut", "model_unreachable", None),
    ],
)
async def test_what_passes_is_postponed(
    ask: Ask, kind: str, error_type: str, wait: float | None
) -> None:
    with Endpoint.running() as endpoint:
        endpoint.misbehave(kind, seconds=7)
        told = await failure_of(spec_of(endpoint), ask)
        assert len(endpoint.requests) == 1, "the library tried again by itself"
    assert isinstance(told, Postponed)
    assert (told.error.error_type, told.retry_after_s) == (error_type, wait)
    assert told.error.retryable
    _reads_well(told.error, endpoint)


async def test_a_date_to_come_back_is_as_good_as_seconds(ask: Ask) -> None:
    with Endpoint.running() as endpoint:
        endpoint.misbehave("rate_limited_date", seconds=30)
        told = await failure_of(spec_of(endpoint), ask)
    assert isinstance(told, Postponed)
    assert told.retry_after_s is not None
    assert 20 < told.retry_after_s <= 31


@pytest.mark.parametrize(
    ("kind", "error_type", "retryable"),
    [
        ("quota", "model_quota_exceeded", False),
        ("unauthorized", "model_unauthorized", False),
        ("forbidden", "model_unauthorized", False),
        ("no_such_model", "model_not_found", False),
        ("context_too_long", "context_too_long", False),
        ("filtered", "model_refused", False),
        ("not_json", "model_answer_invalid", True),
        ("wrong_shape", "model_answer_invalid", True),
        ("empty", "model_answer_invalid", True),
    ],
)
async def test_what_lasts_fails(ask: Ask, kind: str, error_type: str, *, retryable: bool) -> None:
    with Endpoint.running() as endpoint:
        endpoint.misbehave(kind)
        told = await failure_of(spec_of(endpoint), ask)
    assert isinstance(told, EngineError)
    assert (told.error_type, told.retryable) == (error_type, retryable)
    _reads_well(told, endpoint)


def _reads_well(told: EngineError, endpoint: Endpoint) -> None:
    assert endpoint.style.model in told.message
    for text in (told.message, told.suggestion):
        assert endpoint.key not in text
        assert endpoint.key[-8:] not in text
        assert "status_code" not in text
        assert "{" not in text
        assert text.endswith((".", '"'))


async def test_nobody_at_home(ask: Ask) -> None:
    spec = choose_models(
        {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "CMBAGENT_MODEL": "qwen3:8b"}, {}
    )["default"]
    told = await failure_of(spec, ask)
    assert isinstance(told, Postponed)
    assert told.error.error_type == "model_unreachable"
    assert told.error.message.startswith("qwen3:8b cannot be reached")


async def test_talking_without_end() -> None:
    """Each piece comes in time; the last never does."""
    with Endpoint.running(chunk_ms=60) as endpoint:
        endpoint.misbehave("huge", size=20_000)
        told = await failure_of(spec_of(endpoint, CMBAGENT_MODEL_TIMEOUT="0.2"), streamed)
    assert isinstance(told, failures.ModelTalksOn)


# -- from the library, whatever it raises ---------------------------------------------------------
def _kinds(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_kinds(child) for child in kind.__subclasses__()))


def test_no_sort_of_failure_is_forgotten() -> None:
    for base in (exceptions.ModelAPIError, exceptions.UnexpectedModelBehavior):
        for kind in _kinds(base):
            assert translate(kind.__new__(kind)) is not None, kind
    for kind in _kinds(httpx2.TransportError):
        assert isinstance(translate(kind.__new__(kind)), Postponed), kind


def test_the_most_exact_failure_is_told() -> None:
    for kind, failure in failures._PASSING + failures._LASTING:
        told = translate(kind.__new__(kind))
        assert type(told.error if isinstance(told, Postponed) else told) is failure, kind


def test_ours_stay_as_they_are() -> None:
    ours = NotApproved("No.", "Ask.")
    assert translate(ours) is ours
    postponed = Postponed(ours)
    assert translate(postponed) is postponed


@pytest.mark.parametrize("error", [ValueError("x"), exceptions.UserError("x"), KeyError("x")])
def test_defects_are_not_blamed_on_a_model(error: Exception) -> None:
    assert translate(error) is None


def test_a_long_answer_that_was_cut() -> None:
    told = translate(exceptions.OutputTokenLimitExceeded("limit"))
    assert isinstance(told, EngineError)
    assert told.error_type == "output_too_long"


# -- what is quoted -------------------------------------------------------------------------------
def said(body: Any, key: str = KEY) -> str:
    spec = choose_models({"OPENAI_API_KEY": key, "CMBAGENT_MODEL": "gpt-4o"}, {})["default"]
    told = translate(exceptions.ModelHTTPError(400, "gpt-4o", body), spec)
    assert isinstance(told, EngineError)
    return told.message


@pytest.mark.parametrize(
    "body",
    [
        {"message": "Too odd."},
        {"error": {"message": "Too odd.", "type": "x"}},
        {"type": "error", "error": {"type": "x", "message": "Too odd."}},
        {"detail": [{"msg": "?"}], "message": "Too odd."},
        [{"error": {"message": "Too odd."}}],
        json.dumps({"message": "Too odd."}),
        {"error": "Too odd."},
        "Too \0odd.\r\n",
    ],
)
def test_the_providers_sentence_is_quoted(body: Any) -> None:
    assert said(body).endswith('It said: "Too odd."')


@pytest.mark.parametrize("body", [None, {}, [], "", "<html>x</html>", "{broken", {"code": 3}, 7])
def test_what_is_no_sentence_is_not_quoted(body: Any) -> None:
    assert "It said" not in said(body)


def test_a_quotation_has_an_end() -> None:
    assert len(said({"message": "odd " * 10_000})) < MAX_QUOTED + 200
    assert said("[" * 100_000) == said(None)


@pytest.mark.parametrize("long", ["a " * 10**6, "sk-" * 10**6, "." * 10**6])
def test_a_long_error_takes_no_time(long: str) -> None:
    began = time.process_time()
    said({"message": long})
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        f"'{KEY}'.",
        f"https://host/v1?key={KEY}&x=1",
        "sk-proj-********Xy4z",
        "sk-proj-...Xy4z.",
        "sk-p…1wXy4z",
        "sk-proj-Ab3dEf6h",
        "hIj9kLm2nOp5q",
        f"Bearer {KEY}",
        "sk-another-key-of-somebody",
        "AIzaSyA1234567890",
    ],
)
def test_a_key_is_never_quoted(echo: str) -> None:
    text = said({"message": f"Incorrect API key provided: {echo} Look it up."})
    assert text.endswith(' Look it up."')
    assert HIDDEN in text
    for at in range(len(KEY) - 7):
        assert KEY[at : at + 8] not in text
    assert "Xy4z" not in text
    assert "AIza" not in text
    assert "another" not in text


@pytest.mark.parametrize("echo", ["local-1", "EMPTY", "geheim"])
def test_a_short_key_is_hidden_as_a_whole(echo: str) -> None:
    assert redacted(f"wrong key {echo}.", echo) == f"wrong key {HIDDEN}."


def test_words_are_left_alone() -> None:
    text = "This model's maximum context length is 128000 tokens... please shorten gpt-4o-mini's."
    assert redacted(text, KEY) == text
    assert redacted(text, None) == text
