"""Which models a run uses: what its session asks for, out of what the operator connected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from cmbagent import wire
from cmbagent.models.choosing import ModelChoiceInvalid, agent_of, choose_models
from sessions_app.errors import ConfigInvalid

UNCONNECTED = "not connected"


def models_for(config: Mapping[str, Any]) -> dict[str, wire.ModelSpec]:
    """By role, with keys: for an engine's start message and nothing else. Raises ConfigInvalid
    naming the field."""
    try:
        return choose_models(settings.MODEL_ENVIRONMENT, config)
    except ModelChoiceInvalid as refusal:
        raise ConfigInvalid({refusal.field: str(refusal).removesuffix(".")}) from None


def model_name_for(config: Mapping[str, Any]) -> str:
    """Of whom the task is given to, as people are told; "no-model" for none. Raises
    ConfigInvalid."""
    return models_for(config)[agent_of(config)]["name"]


def name_of_model(config: Mapping[str, Any]) -> str:
    """The same for who cannot refuse any more: a run that was queued before the operator took its
    model away is claimed, and fails with a sentence."""
    try:
        return model_name_for(config)
    except ConfigInvalid:
        return UNCONNECTED
