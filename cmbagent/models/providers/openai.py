"""OpenAI, and whatever speaks its chat protocol: vLLM, Ollama, llama.cpp, gateways."""

from __future__ import annotations

from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings

from cmbagent.models.choosing import PROVIDERS
from cmbagent.wire import ModelSpec

COMPATIBLE = "openai-compatible"  # kept in messages: another word would orphan stored ones
NO_KEY = "no-key"  # the library insists on one


def build(spec: ModelSpec, settings: ModelSettings) -> Model:
    return OpenAIChatModel(spec["name"], provider=_provider(spec), settings=settings)


def _provider(spec: ModelSpec) -> OpenAIProvider | OpenAICompatibleProvider:
    key = spec["api_key"] or NO_KEY
    if spec["base_url"]:
        return OpenAICompatibleProvider(COMPATIBLE, base_url=spec["base_url"], api_key=key)
    return OpenAIProvider(base_url=PROVIDERS["openai"].address, api_key=key)
