"""The modes a session can have: what each is for and what its configuration may say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, computed_field

from sessions_app.errors import ConfigInvalid

NO_MODEL = "no-model"
MAX_ENTRIES = 100  # of parameters, and of options
_SHOWN_CHARACTERS = 100  # of each part of the name of a field that is refused


class ModeConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")


Role = Literal["engineer", "researcher"]
EntryName = Annotated[str, Field(max_length=100)]
ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]


class OneShotConfig(ModeConfig):
    agent: Role = Field(
        default="engineer",
        description="Who does the task: the engineer writes Python, runs it and mends it; the "
        "researcher writes a text with formulas. Without a model there is only the engineer.",
    )
    model: ModelName | None = Field(
        default=None,
        description="The AI model for every role, like gpt-4o or anthropic:claude-sonnet-5-5, or "
        "no-model; null: as the operator chose.",
    )
    models: dict[Role, ModelName] = Field(
        default_factory=dict, description="A model for one role; it goes before `model`."
    )
    maxRounds: int = Field(  # noqa: N815  the origin's name
        default=25,
        title="Rounds at most",
        ge=1,
        le=100,
        description="How often a model is asked at most; then the run ends and keeps what it made.",
    )
    maxAttempts: int = Field(  # noqa: N815  the origin's name
        default=6,
        title="Attempts at most",
        ge=1,
        le=20,
        description="How often code that a model wrote may fail before the run ends.",
    )
    instructions: str = Field(
        default="",
        max_length=8_000,
        description="What the agent shall keep in mind beside the task, such as the style of "
        "plots. Without a model it has no effect.",
    )
    parameters: dict[EntryName, FiniteFloat] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="Values for a recipe, by parameter name; they win over nothing: a value that "
        "contradicts the task's text is refused. A model does not see them.",
    )
    options: dict[EntryName, Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict,
        max_length=MAX_ENTRIES,
        description="Like parameters, for what is chosen: spectra, model, the name of a file.",
    )


class Mode(BaseModel):
    """What the page and the API show of one mode."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)
    id: str
    label: str
    with_model: str = Field(exclude=True)  # what it does; {model} stands for the model's name
    without_model: str = Field(exclude=True)
    supports_resume: bool
    supports_hitl: bool
    config: type[ModeConfig] = Field(exclude=True)
    examples: list[dict[str, Any]]

    @computed_field  # type: ignore[prop-decorator]  # as its documentation does it
    @property
    def description(self) -> str:
        """True for this server as it is set up now."""
        name = settings.MODEL_ENVIRONMENT.default_name
        if name == NO_MODEL:
            return self.without_model
        return self.with_model.format(model=name)

    @property
    def config_schema(self) -> dict[str, Any]:
        return self.config.model_json_schema()


# each can be started as it stands, without a model; a table of one's own must be uploaded first
_EXAMPLES = [
    (Path(__file__).parent / "examples" / f"{name}.md").read_text(encoding="utf-8").rstrip("\n")
    for name in (
        *("cmb_power_spectrum", "random_walk", "distances_and_ages", "fit_with_errors"),
        *("random_field", "oscillator"),
    )
]

MODES: dict[str, Mode] = {
    mode.id: mode
    for mode in [
        Mode(
            id="one-shot",
            label="One shot",
            with_model="An agent ({model}) writes Python for your task, runs it in the sandbox, "
            "reads errors and plots, mends it and reports; output, plots and files are kept.",
            without_model="Runs the Python blocks of your task in order, or a recipe it asks for, "
            "and keeps the output, plots and files. No AI model is connected: nothing is written "
            "by one.",
            supports_resume=True,
            supports_hitl=False,
            config=OneShotConfig,
            examples=[{"task": task, "config": {}} for task in _EXAMPLES],
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
        problems = {_field(item["loc"]): item["msg"] for item in error.errors()}
        raise ConfigInvalid(problems) from None
    return model.model_dump(mode="json", exclude_unset=True)


def _field(place: tuple[int | str, ...]) -> str:
    return ".".join(
        ["config", *(str(part)[:_SHOWN_CHARACTERS] for part in place if part != "[key]")]
    )
