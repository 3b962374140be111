"""Claude, at Anthropic or at an address that speaks its protocol."""

from __future__ import annotations

from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.settings import ModelSettings

from cmbagent.models.choosing import PROVIDERS
from cmbagent.wire import ModelSpec


def build(spec: ModelSpec, settings: ModelSettings) -> Model:
    provider = AnthropicProvider(
        api_key=spec["api_key"] or "", base_url=spec["base_url"] or PROVIDERS["anthropic"].address
    )
    return AnthropicModel(spec["name"], provider=provider, settings=settings)
