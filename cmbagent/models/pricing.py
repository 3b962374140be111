"""What a model call used and cost. Nothing is fetched: prices are those that genai-prices brought
along, or the operator's own (CMBAGENT_MODEL_PRICES)."""

from __future__ import annotations

from decimal import Decimal

from genai_prices import calc_price
from pydantic_ai import ModelResponse
from pydantic_ai.usage import RequestUsage

from cmbagent.models.choosing import NO_MODEL
from cmbagent.wire import ModelSpec, Usage

_MILLION = 1_000_000
_MAX_TOKENS = 2**31 - 1  # of one call: what is more is no count
_DIGITS = 9  # of a cost in USD: a token of the cheapest model costs 1e-8


def usage_of(spec: ModelSpec, agent: str, response: ModelResponse) -> Usage:
    """`agent` is whose call it was. Input tokens contain the cached ones. A provider that counts
    nothing leaves zeros, and a cost that nobody knows."""
    is_ai = spec["provider"] != NO_MODEL
    usage = _believable(response.usage) if is_ai else RequestUsage()
    return {
        "agent": agent,
        "provider": spec["provider"],
        "model": spec["name"],
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cache_read_tokens,
        "cost_usd": cost_usd(spec, usage) if is_ai else 0.0,
    }


def _believable(usage: RequestUsage) -> RequestUsage:
    """The usage, or one that measured nothing if a count in it is none."""
    counts = (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)
    is_counted = all(type(count) is int and 0 <= count <= _MAX_TOKENS for count in counts)
    return usage if is_counted else RequestUsage(unmeasured_requests=1)


def cost_usd(spec: ModelSpec, usage: RequestUsage) -> float | None:
    """None when nobody knows. What an address of the operator's own charges is not what the
    provider of that name does: there only the operator's price counts."""
    if usage.unmeasured_requests or not usage.has_values():
        return None
    if spec["input_price"] is not None and spec["output_price"] is not None:
        priced = usage.input_tokens * spec["input_price"]
        priced += usage.output_tokens * spec["output_price"]
        return round(priced / _MILLION, _DIGITS)
    if spec["base_url"]:
        return None
    price = _listed_price(spec, usage)
    return None if price is None else round(float(price), _DIGITS)


def _listed_price(spec: ModelSpec, usage: RequestUsage) -> Decimal | None:
    try:
        return calc_price(usage, spec["name"], provider_id=spec["provider"]).total_price
    except (LookupError, ValueError):  # unknown; or counts that do not fit each other
        return None
