"""A form is made from whatever schema a mode has."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import pytest
from django import forms
from pydantic import BaseModel, Field

from sessions_app.config_fields import JsonSetting, settings_of


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Odd(BaseModel):
    """A mode to come."""

    dry_run: bool = Field(default=True, description="Only say what would be done.")
    maxSteps: int = Field(default=3, ge=1, le=9)  # noqa: N815  as modes name their settings
    tolerance: float | None = Field(default=None, ge=0)
    colour: Colour = Colour.RED
    times: Literal[1, 2] = 1
    note: str = Field(default="", max_length=5_000, title="A note")
    weights: dict[str, float] = Field(default_factory=dict)
    either: int | str = 0


FIELDS = settings_of(Odd.model_json_schema())


def test_each_type_has_its_field() -> None:
    assert {name: type(field).__name__ for name, field in FIELDS.items()} == {
        "dry_run": "BooleanSetting",
        "maxSteps": "IntegerField",
        "tolerance": "FloatField",
        "colour": "TypedChoiceField",
        "times": "TypedChoiceField",
        "note": "CharField",
        "weights": "JsonSetting",
        "either": "JsonSetting",
    }
    assert isinstance(FIELDS["note"].widget, forms.Textarea)


def test_labels_are_words() -> None:
    said = [FIELDS[name].label for name in ("dry_run", "maxSteps", "note")]
    assert said == ["Dry run", "Max steps", "A note"]
    assert FIELDS["dry_run"].help_text == "Only say what would be done."


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("dry_run", True, None),
        ("dry_run", False, False),
        ("maxSteps", "4", 4),
        ("maxSteps", "", None),
        ("tolerance", "0.5", 0.5),
        ("colour", "blue", "blue"),
        ("times", "2", 2),
        ("weights", '{"a": 1}', {"a": 1}),
        ("weights", "", None),
        ("either", '"x"', "x"),
    ],
)
def test_what_is_typed_is_what_the_schema_wants(name: str, typed: Any, value: Any) -> None:
    assert FIELDS[name].clean(typed) == value


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("maxSteps", "0"),
        ("maxSteps", "10"),
        ("colour", "green"),
        ("weights", "{"),
        ("note", "x" * 5001),
    ],
)
def test_what_does_not_fit_is_refused(name: str, typed: str) -> None:
    with pytest.raises(forms.ValidationError):
        FIELDS[name].clean(typed)


def test_nothing_known_is_json() -> None:
    assert isinstance(settings_of({"properties": {"any": {}}})["any"], JsonSetting)


def test_json_that_nobody_wrote_is_an_empty_field() -> None:
    assert FIELDS["weights"].prepare_value(None) == ""
    assert FIELDS["weights"].prepare_value({"a": 1}) == '{"a": 1}'
