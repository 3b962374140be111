"""The settings of a mode as fields of a form, made from the JSON schema of its configuration.

Each may be left empty: the mode has its own way then. What no kind of field is known for, such as
a recipe's parameters, is written as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from django import forms

Schema = Mapping[str, Any]
_ONE_LINE = 1000  # characters; what may be longer gets a larger field
_ATTRS = {"class": "field", "autocomplete": "off"}


class BooleanSetting(forms.BooleanField):
    """A box to tick. As it is anyway, it says nothing."""

    widget = forms.CheckboxInput

    def clean(self, value: Any) -> bool | None:
        ticked = bool(super().clean(value))
        return None if ticked == bool(self.initial) else ticked


class JsonSetting(forms.JSONField):
    """For programs, and for people who know what they want."""

    default_error_messages = {"invalid": "This is no JSON."}

    def prepare_value(self, value: Any) -> Any:
        """Nothing is an empty field, not the word null."""
        return "" if value is None else super().prepare_value(value)


def settings_of(schema: Schema) -> dict[str, forms.Field]:
    """By the names that the configuration has."""
    definitions = schema.get("$defs", {})
    return {
        name: _field(name, _plain(each, definitions))
        for name, each in schema.get("properties", {}).items()
    }


def _plain(schema: Schema, definitions: Schema) -> dict[str, Any]:
    """Without references, and without null: an empty field says that."""
    if reference := schema.get("$ref"):
        meant = definitions.get(reference.rpartition("/")[2], {})
        return {**_plain(meant, definitions), **_without(schema, "$ref")}
    options = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    if len(options) == 1:
        return {**_plain(options[0], definitions), **_without(schema, "anyOf")}
    return dict(schema)


def _without(schema: Schema, name: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != name}


def _field(name: str, schema: Schema) -> forms.Field:
    kind = "choice" if "enum" in schema else schema.get("type", "")
    make: Callable[..., forms.Field] = _MAKERS.get(kind if isinstance(kind, str) else "", _json)
    return make(
        schema,
        label=_label(name, schema),
        help_text=schema.get("description", "").replace("null:", "empty:"),
        required=False,
    )


def _label(name: str, schema: Schema) -> str:
    """The schema's title, unless that is only the name in the way pydantic writes it."""
    title = str(schema.get("title", ""))
    if title and title != name.replace("_", " ").title():
        return title
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ").lower()
    return words[:1].upper() + words[1:]


# -- kinds ------------------------------------------------------------------------------------
def _choice(schema: Schema, **about: Any) -> forms.Field:
    usual = schema.get("default")
    unsaid = "as usual" if usual is None else f"{usual} (as usual)"
    choices = [("", unsaid), *((each, each) for each in schema["enum"])]
    return forms.TypedChoiceField(
        choices=choices,
        coerce=lambda said: next((each for each in schema["enum"] if str(each) == said), said),
        empty_value=None,
        widget=forms.Select(attrs=_ATTRS),
        **about,
    )


def _boolean(schema: Schema, **about: Any) -> forms.Field:
    return BooleanSetting(initial=bool(schema.get("default")), **about)


def _integer(schema: Schema, **about: Any) -> forms.Field:
    return forms.IntegerField(**_bounds(schema), widget=_number(schema, "numeric"), **about)


def _float(schema: Schema, **about: Any) -> forms.Field:
    widget = _number(schema, "decimal", step="any")
    return forms.FloatField(**_bounds(schema), widget=widget, **about)


def _bounds(schema: Schema) -> dict[str, Any]:
    return {"min_value": schema.get("minimum"), "max_value": schema.get("maximum")}


def _number(schema: Schema, inputmode: str, **more: str) -> forms.NumberInput:
    usual = {"placeholder": str(schema["default"])} if schema.get("default") is not None else {}
    return forms.NumberInput(attrs={**_ATTRS, "inputmode": inputmode, **usual, **more})


def _text(schema: Schema, **about: Any) -> forms.Field:
    attrs = {**_ATTRS, "spellcheck": "false"}
    if usual := schema.get("default"):
        attrs["placeholder"] = str(usual)
    is_long = schema.get("maxLength", 0) > _ONE_LINE
    widget = forms.Textarea(attrs={**attrs, "rows": 3}) if is_long else forms.TextInput(attrs=attrs)
    return forms.CharField(max_length=schema.get("maxLength"), widget=widget, **about)


def _json(schema: Schema, **about: Any) -> forms.Field:
    usual = json.dumps(schema.get("default", {}))
    attrs = {
        **_ATTRS,
        "class": "field code",
        "rows": 2,
        "placeholder": usual,
        "spellcheck": "false",
    }
    return JsonSetting(widget=forms.Textarea(attrs=attrs), **about)


_MAKERS: dict[str, Callable[..., forms.Field]] = {
    "choice": _choice,
    "boolean": _boolean,
    "integer": _integer,
    "number": _float,
    "string": _text,
}
