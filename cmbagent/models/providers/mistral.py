"""Mistral's models, at Mistral."""

from __future__ import annotations

from pydantic_ai.models import Model
from pydantic_ai.models.mistral import MistralModel
from pydantic_ai.providers.mistral import MistralProvider
from pydantic_ai.settings import ModelSettings

from cmbagent.models.choosing import PROVIDERS
from cmbagent.wire import ModelSpec


def build(spec: ModelSpec, settings: ModelSettings) -> Model:
    provider = MistralProvider(
        api_key=spec["api_key"], base_url=spec["base_url"] or PROVIDERS["mistral"].address
    )
    return MistralModel(spec["name"], provider=provider, settings=settings)
