"""Gemini, through the Gemini API."""

from __future__ import annotations

from pydantic_ai.models import Model
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.settings import ModelSettings

from cmbagent.models.choosing import PROVIDERS
from cmbagent.wire import ModelSpec


def build(spec: ModelSpec, settings: ModelSettings) -> Model:
    provider = GoogleProvider(
        api_key=spec["api_key"], base_url=spec["base_url"] or PROVIDERS["google"].address
    )
    return GoogleModel(spec["name"], provider=provider, settings=settings)
