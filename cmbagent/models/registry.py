"""Loads the library of a provider when a run needs it: each costs up to a second and tens of MB,
and most are not installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings

from cmbagent.errors import EngineError
from cmbagent.models.choosing import PROVIDERS
from cmbagent.wire import ModelSpec

Build = Callable[[ModelSpec, ModelSettings], Model]


class ModelNotInstalled(EngineError):
    """The host that runs it lacks the library, though the one that took the task has it."""

    error_type = "model_not_installed"
    retryable = True


def builder_for(provider: str) -> Build:
    """Raises ModelNotInstalled."""
    if provider not in PROVIDERS:
        raise _not_installed(provider)
    try:
        module = importlib.import_module(f"cmbagent.models.providers.{provider}")
    except ImportError as error:
        raise _not_installed(provider) from error
    build: Build = module.build
    return build


def _not_installed(provider: str) -> ModelNotInstalled:
    return ModelNotInstalled(
        f"The library for models of {provider} is not installed where the run was carried out.",
        "Ask the operator to install it there (make models), then retry; or choose another model.",
    )
