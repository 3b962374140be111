"""Models are built from their specification alone, and each provider's protocol is spoken."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from pydantic_ai import Agent, ModelRequest
from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.usage import RunUsage

from cmbagent.errors import EngineError, Postponed
from cmbagent.models import bounding, guarding, registry
from cmbagent.models.building import connected_model
from cmbagent.models.choosing import PROVIDERS, choose_models
from cmbagent.models.failures import ModelAnswerInvalid, ModelRequestRejected, translate
from cmbagent.models.registry import ModelNotInstalled, builder_for
from cmbagent.wire import ModelSpec
from tests.cmbagent.other_providers import KEY, USED, OtherProviders
from tests.endpoint import CONTRARY, PLAIN, Endpoint, Personality

TASK = "Explain why the night is dark."
TALK = ModelRequest.user_text_prompt(TASK)
NAMES = {
    "anthropic": "anthropic:claude-sonnet-5-5",
    "google": "google:gemini-3.8-flash",
    "mistral": "mistral:mistral-large-latest",
}


@pytest.fixture
def house() -> Iterator[OtherProviders]:
    with OtherProviders.running() as house:
        yield house


def spec_of(provider: str, url: str, key: str = KEY) -> ModelSpec:
    environ = {
        PROVIDERS[provider].keys[0]: key,
        PROVIDERS[provider].base_url: url,
        "CMBAGENT_MODEL": NAMES[provider],
        "CMBAGENT_MODEL_TIMEOUT": "5",
    }
    return choose_models(environ, {})["default"]


async def whole(model: Model) -> tuple[str, RunUsage]:
    async with Agent(model) as agent:
        result = await agent.run(TASK)
    return result.output, result.usage


async def streamed(model: Model) -> tuple[str, RunUsage]:
    async with Agent(model) as agent, agent.run_stream(TASK) as result:
        return await result.get_output(), result.usage


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("provider", NAMES)
async def test_each_extra_is_spoken(house: OtherProviders, provider: str, ask: Any) -> None:
    output, usage = await ask(connected_model(spec_of(provider, house.url)))
    assert output == TASK
    assert (usage.input_tokens, usage.output_tokens) == USED


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("style", [PLAIN, CONTRARY], ids=["plain", "contrary"])
async def test_compatible_endpoints_are_spoken(style: Personality, ask: Any) -> None:
    with Endpoint.running(style) as endpoint:
        spec = choose_models(endpoint.environment, {})["default"]
        output, usage = await ask(connected_model(spec))
    assert "the night is dark" in output.lower() or "$$" in output
    assert usage.input_tokens == 100


_BUSY = {"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down."}}
_FULL = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize(
    ("refusal", "error_type", "wait"),
    [
        ((429, _BUSY, {"Retry-After": "9"}), "model_rate_limited", 9.0),
        ((529, _FULL, {}), "model_overloaded", None),
    ],
)
async def test_anthropic_asks_to_wait(
    house: OtherProviders, ask: Any, refusal: Any, error_type: str, wait: float | None
) -> None:
    house.refuse_next = refusal
    told = await failure_of(ask, spec_of("anthropic", house.url))
    assert isinstance(told, Postponed)
    assert (told.error.error_type, told.retry_after_s) == (error_type, wait)
    assert len(house.headers) == 1, "the library tried again by itself"


@pytest.mark.parametrize("provider", NAMES)
async def test_a_wrong_key_is_told_and_not_shown(house: OtherProviders, provider: str) -> None:
    wrong = "wrong-key-of-tests-0123456789"
    told = await failure_of(whole, spec_of(provider, house.url, wrong))
    assert isinstance(told, EngineError)
    assert told.error_type == "model_unauthorized"
    assert wrong not in told.message


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("provider", NAMES)
async def test_of_an_error_only_the_begin_is_read(
    house: OtherProviders, provider: str, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounding, "MAX_ERROR_BYTES", 1000)
    house.refuse_next = (400, {"message": "x" * 100_000}, {})
    with pytest.raises(ModelHTTPError) as raised:
        await ask(connected_model(spec_of(provider, house.url)))
    assert len(str(raised.value)) < 3_000
    house.refuse_next = (400, {}, {"Content-Encoding": "gzip"})
    told = await failure_of(ask, spec_of(provider, house.url))
    assert isinstance(told, ModelRequestRejected | ModelAnswerInvalid)  # with or without its words


@pytest.mark.parametrize("provider", NAMES)
async def test_an_answer_that_is_too_long_is_not_taken_in(
    house: OtherProviders, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounding, "MAX_ANSWER_BYTES", 50)
    told = await failure_of(streamed, spec_of(provider, house.url))
    assert isinstance(told, ModelAnswerInvalid)
    assert house.headers[-1]["accept-encoding"] == "identity"


async def test_a_packed_answer_is_not_unpacked() -> None:
    packed = httpx2.ByteStream(gzip.compress(b"x"))
    response = httpx2.Response(200, headers={"Content-Encoding": "gzip"}, stream=packed)
    await bounding._bound_response(response)
    with pytest.raises(UnexpectedModelBehavior):
        await response.aread()


@pytest.mark.parametrize("status", [302, 304])
@pytest.mark.parametrize("ask", [whole, streamed])
async def test_a_redirect_is_no_answer(house: OtherProviders, ask: Any, status: int) -> None:
    house.refuse_next = (status, {}, {})
    told = await failure_of(ask, spec_of("mistral", house.url))
    assert isinstance(told, EngineError)
    assert told.error_type == "model_answer_invalid"


async def failure_of(ask: Any, spec: ModelSpec) -> EngineError | Postponed:
    with pytest.raises(RuntimeError) as raised:
        await ask(connected_model(spec))
    told = translate(raised.value, spec)
    assert told is not None, repr(raised.value)
    return told


# -- nothing but the specification counts -------------------------------------------------------
async def test_the_environment_has_no_say(
    house: OtherProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    for provider in PROVIDERS.values():
        monkeypatch.setenv(provider.keys[-1], "key-from-the-environment")
        monkeypatch.setenv(provider.base_url, "http://192.0.2.1/")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-from-the-environment")
    output, _ = await whole(connected_model(spec_of("anthropic", house.url)))
    assert output == TASK
    assert "from-the-environment" not in str(house.headers)
    assert not [name for name in os.environ if name.startswith(("OPENAI_", "ANTHROPIC_"))]


async def test_compatible_endpoints_are_asked_without_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-from-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-from-the-environment")
    with Endpoint.running(key="no-key") as endpoint:
        environ = {"OPENAI_BASE_URL": endpoint.url, "CMBAGENT_MODEL": endpoint.style.model}
        await whole(connected_model(choose_models(environ, {})["default"]))
    assert endpoint.requests[0].authorized


@pytest.mark.parametrize("provider", ["openai", *NAMES])
async def test_own_addresses(provider: str) -> None:
    environ = {PROVIDERS[provider].keys[0]: KEY, "CMBAGENT_MODEL": NAMES.get(provider, "gpt-4o")}
    async with connected_model(choose_models(environ, {})["default"]) as model:
        assert str(model.base_url).rstrip("/") == PROVIDERS[provider].address
        assert KEY not in repr(model)


async def test_connections_are_closed(house: OtherProviders) -> None:
    model = connected_model(spec_of("anthropic", house.url))
    await whole(model)
    assert model.provider is not None
    assert model.provider._own_http_client is not None
    assert model.provider._own_http_client.is_closed


@pytest.mark.parametrize("provider", ["anthropic", "no-such"])
def test_a_library_that_is_missing_where_it_runs(
    monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name}")

    monkeypatch.setattr(registry, "importlib", SimpleNamespace(import_module=absent))
    with pytest.raises(ModelNotInstalled, match=provider) as missing:
        builder_for(provider)
    assert "make models" in missing.value.suggestion


# -- whose fault it is --------------------------------------------------------------------------
async def test_a_defect_of_ours_is_not_the_models(house: OtherProviders) -> None:
    ours: dict[str, Any] = {"__name__": "cmbagent.taking_in"}
    exec("def take_in(answer):\n    answer.no_such_attribute", ours)
    async with connected_model(spec_of("anthropic", house.url)) as model:
        assert isinstance(model, guarding.Guarded)
        with pytest.raises(AttributeError):
            await _streamed_into(ours["take_in"], model)


async def _streamed_into(take_in: Any, model: Model) -> None:
    async with model.request_stream([TALK], None, ModelRequestParameters()) as response:
        take_in(response)
