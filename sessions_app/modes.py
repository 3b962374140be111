"""The modes a session can have: what each is for and what its configuration may say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sessions_app.errors import ConfigInvalid


class ModeConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OneShotConfig(ModeConfig):
    parameters: dict[str, float] = Field(
        default_factory=dict,
        description="Values for the recipe, by parameter name; they win over nothing: "
        "a value that contradicts the task's text is refused.",
    )


class Mode(BaseModel):
    """What the page and the API show of one mode."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)
    id: str
    label: str
    description: str
    supports_resume: bool
    supports_hitl: bool
    config: type[ModeConfig] = Field(exclude=True)
    examples: list[dict[str, Any]]

    @property
    def config_schema(self) -> dict[str, Any]:
        return self.config.model_json_schema()


_CAMB_TASK = "Compute the CMB temperature power spectrum for H0 = 67.4 and plot it."
_CODE_TASK = (Path(__file__).parent / "examples" / "random_walk.md").read_text()

MODES: dict[str, Mode] = {
    mode.id: mode
    for mode in [
        Mode(
            id="one-shot",
            label="One shot",
            description="Runs the Python blocks of your task in order, or a recipe it asks for, "
            "and keeps the output, plots and files. No AI model is used yet.",
            supports_resume=True,
            supports_hitl=False,
            config=OneShotConfig,
            examples=[{"task": _CAMB_TASK, "config": {}}, {"task": _CODE_TASK, "config": {}}],
        )
    ]
}


def checked_config(mode: str, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The configuration as its mode understands it. Raises ConfigInvalid naming the field."""
    if mode not in MODES:
        raise ConfigInvalid({"mode": f"unknown; use one of {', '.join(MODES)}"})
    try:
        model = MODES[mode].config.model_validate(dict(config or {}))
    except ValidationError as error:
        problems = {
            ".".join(map(str, ("config", *item["loc"]))): item["msg"] for item in error.errors()
        }
        raise ConfigInvalid(problems) from None
    return model.model_dump(mode="json", exclude_unset=True)
