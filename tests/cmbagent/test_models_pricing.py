"""What a call cost: from the list, from the operator, or nobody knows."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pydantic_ai import ModelResponse, TextPart
from pydantic_ai.usage import RequestUsage

from cmbagent.models.choosing import choose_models
from cmbagent.models.pricing import usage_of

USED = RequestUsage(input_tokens=1_000_000, output_tokens=100_000)
ELSEWHERE = {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a price was looked up over the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def cost(name: str, used: RequestUsage = USED, **environ: str) -> float | None:
    keys = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "MISTRAL_API_KEY": "k"}
    spec = choose_models({**keys, "CMBAGENT_MODEL": name, **environ}, {})["default"]
    response = ModelResponse(parts=[TextPart("done")], usage=used)
    return usage_of(spec, "engineer", response)["cost_usd"]


def test_listed_prices() -> None:
    assert cost("gpt-4o") == pytest.approx(2.5 + 1.0)
    assert (cost("anthropic:claude-haiku-4-5") or 0) > 0
    assert (cost("mistral:mistral-large-latest") or 0) > 0


def test_cached_tokens_are_cheaper_by_the_list() -> None:
    cached = RequestUsage(input_tokens=1_000_000, cache_read_tokens=1_000_000)
    fresh = RequestUsage(input_tokens=1_000_000)
    assert (cost("gpt-4o", cached) or 9) < (cost("gpt-4o", fresh) or 0)


@pytest.mark.parametrize(
    ("name", "used", "environ"),
    [
        ("a-model-nobody-knows", USED, {}),
        ("gpt-4o", USED, ELSEWHERE),
        ("qwen3:8b", USED, ELSEWHERE),
        ("gpt-4o", RequestUsage(unmeasured_requests=1), {}),
        ("gpt-4o", RequestUsage(input_tokens=5, unmeasured_requests=1), {}),
        ("gpt-4o", RequestUsage(), {}),
        ("gpt-4o", RequestUsage(input_tokens=5, cache_read_tokens=50), {}),
    ],
)
def test_unknown_is_not_zero(name: str, used: RequestUsage, environ: dict[str, str]) -> None:
    assert cost(name, used, **environ) is None


def test_the_operator_knows_better() -> None:
    prices = "qwen3:8b=0/0, gpt-4o=10/20,anthropic:claude-haiku-4-5=1/2"
    environ: dict[str, Any] = {**ELSEWHERE, "CMBAGENT_MODEL_PRICES": prices}
    assert cost("gpt-4o", **environ) == 12.0
    assert cost("qwen3:8b", **environ) == 0.0
    assert cost("anthropic:claude-haiku-4-5", **environ) == 1.2
    assert cost("gpt-4o-mini", **environ) is None
    assert cost("gpt-4o", RequestUsage(), **environ) is None


def test_what_is_told_of_a_call() -> None:
    spec = choose_models({"OPENAI_API_KEY": "k", "CMBAGENT_MODEL": "gpt-4o"}, {})["default"]
    used = RequestUsage(input_tokens=30, output_tokens=4, cache_read_tokens=20)
    assert usage_of(spec, "engineer", ModelResponse(parts=[], usage=used)) == {
        "agent": "engineer",
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 30,
        "output_tokens": 4,
        "cached_tokens": 20,
        "cost_usd": pytest.approx((10 * 2.5 + 20 * 1.25 + 4 * 10) / 1e6),
    }


@pytest.mark.parametrize("count", [2**31, -1, 1.5, 10**400])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "cache_read_tokens"])
def test_what_is_no_count_is_unknown(name: str, count: Any) -> None:
    spec = choose_models({"OPENAI_API_KEY": "k", "CMBAGENT_MODEL": "gpt-4o"}, {})["default"]
    used = RequestUsage(**{"input_tokens": 30, "output_tokens": 4, name: count})
    told = usage_of(spec, "engineer", ModelResponse(parts=[], usage=used))
    assert (told["input_tokens"], told["output_tokens"], told["cached_tokens"]) == (0, 0, 0)
    assert told["cost_usd"] is None


def test_no_model_costs_nothing() -> None:
    spec = choose_models({}, {})["default"]
    told = usage_of(spec, "engineer", ModelResponse(parts=[], usage=USED))
    assert (told["model"], told["cost_usd"]) == ("no-model", 0.0)
    assert told["input_tokens"] == told["output_tokens"] == told["cached_tokens"] == 0
