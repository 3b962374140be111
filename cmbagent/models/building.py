"""From a model's specification to the model that agents talk to."""

from __future__ import annotations

import os

from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings

from cmbagent.context import Run
from cmbagent.models.bounding import bound
from cmbagent.models.choosing import NO_MODEL
from cmbagent.models.guarding import Guarded
from cmbagent.models.no_model import no_model
from cmbagent.models.registry import builder_for
from cmbagent.wire import ModelSpec

# A model may be silent for the time an operator grants, and talk for so many times that in all.
TALKING_FACTOR = 6
_READ_BY_LIBRARIES = ("OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "MISTRAL_")


def build_model(spec: ModelSpec, run: Run) -> Model:
    """A model of its own: nothing is shared with another. Whoever uses it outside of an agent that
    was entered (`async with agent`) enters it (`async with model`), so that its connections are
    closed. Raises ModelNotInstalled."""
    if spec["provider"] == NO_MODEL:
        return no_model(run)
    return connected_model(spec)


def connected_model(spec: ModelSpec) -> Model:
    """One that is reached over the network. Raises ModelNotInstalled."""
    _empty_environment()
    model = builder_for(spec["provider"])(spec, _settings(spec))
    bound(model)
    return Guarded(model)


def _settings(spec: ModelSpec) -> ModelSettings:
    """No library repeats a request by itself: it would sleep in the engine, and the run's own
    postponement knows better when. The deadline ends an answer that never ends."""
    return ModelSettings(
        timeout=spec["timeout_s"],
        request_timeout=TALKING_FACTOR * spec["timeout_s"],
        max_retries=0,
    )


def _empty_environment() -> None:
    """Libraries look for further keys, addresses and headers by themselves, some again at each
    request; and children would inherit them. An engine has none, a terminal may."""
    for name in [name for name in os.environ if name.startswith(_READ_BY_LIBRARIES)]:
        del os.environ[name]
