"""What people type into pages, checked and named by field."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from sessions_app.modes import MODES
from sessions_app.statuses import SessionStatus

_FIELD = {"class": "field"}


class SignInForm(AuthenticationForm):
    username = forms.CharField(
        widget=forms.TextInput(
            attrs={
                **_FIELD,
                "autocomplete": "username",
                "autocapitalize": "none",
                "autofocus": True,
            }
        )
    )
    password = forms.CharField(
        strip=False,
        widget=forms.PasswordInput(attrs={**_FIELD, "autocomplete": "current-password"}),
    )


class FilterForm(forms.Form):
    """Which sessions to list."""

    q = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={**_FIELD, "type": "search", "placeholder": "Name"}),
    )
    status = forms.ChoiceField(
        required=False,
        choices=[("", "All"), *SessionStatus.choices],
        widget=forms.Select(attrs=_FIELD),
    )


class TaskForm(forms.Form):
    """A task for a session that is there already."""

    task = forms.CharField(
        strip=False,
        error_messages={"required": "The task is empty: say what shall be done."},
        widget=forms.Textarea(attrs={"class": "field task", "spellcheck": "false", "rows": 10}),
    )


# What a person may set of each, by the name of the field in a mode's configuration. Fields of
# objects, such as a recipe's parameters, are for programs.
_LABELS = {
    "agent": "Agent",
    "model": "Model",
    "maxRounds": "Rounds at most",
    "maxAttempts": "Attempts at most",
    "instructions": "Instructions",
}
_PREFIX = "config-"


class NewSessionForm(TaskForm):
    """With a field for each setting of the mode that is chosen; empty means as the mode has it."""

    mode = forms.ChoiceField(choices=[(mode.id, mode.label) for mode in MODES.values()])
    name = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={**_FIELD, "autocomplete": "off"}),
    )
    # Made with the page: the same page sent twice makes one session.
    once = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mode = MODES.get(str(self["mode"].value())) or next(iter(MODES.values()))
        for name, schema in mode.config_schema["properties"].items():
            if name in _LABELS:
                self.fields[_PREFIX + name] = _config_field(name, schema)

    def config_fields(self) -> Iterator[forms.BoundField]:
        return (self[name] for name in self.fields if name.startswith(_PREFIX))

    def has_config_errors(self) -> bool:
        return any(name.startswith(_PREFIX) for name in self.errors)

    def config(self) -> dict[str, Any]:
        """What was set, as the mode's configuration has it."""
        given = {
            name.removeprefix(_PREFIX): value
            for name, value in self.cleaned_data.items()
            if name.startswith(_PREFIX)
        }
        return {name: value for name, value in given.items() if value not in {None, ""}}

    def refuse_config(self, problems: Mapping[str, str]) -> None:
        """Say what is wrong beside the field; for what has none, above the form."""
        for place, problem in problems.items():
            name = _PREFIX + place.removeprefix("config.")
            if name in self.fields:
                self.add_error(name, problem)
            else:
                self.add_error(None, f"{place}: {problem}")


def _config_field(name: str, schema: Mapping[str, Any]) -> forms.Field:
    default = schema.get("default")
    about: dict[str, Any] = {
        "label": _LABELS[name],
        "help_text": schema.get("description", "").replace("null:", "empty:"),
        "required": False,
    }
    if choices := schema.get("enum"):
        said = [("", f"{default} (as usual)"), *((each, each) for each in choices)]
        return forms.ChoiceField(choices=said, widget=forms.Select(attrs=_FIELD), **about)
    if schema.get("type") == "integer":
        attrs = {**_FIELD, "placeholder": str(default), "inputmode": "numeric"}
        return forms.IntegerField(
            min_value=schema.get("minimum"),
            max_value=schema.get("maximum"),
            widget=forms.NumberInput(attrs=attrs),
            **about,
        )
    if schema.get("maxLength", 0) > _ONE_LINE:
        rows = {**_FIELD, "rows": 3}
        return forms.CharField(
            max_length=schema["maxLength"], widget=forms.Textarea(attrs=rows), **about
        )
    attrs = {**_FIELD, "autocomplete": "off", "spellcheck": "false"}
    return forms.CharField(widget=forms.TextInput(attrs=attrs), **about)


_ONE_LINE = 1000  # characters; what may be longer gets a larger field


class UploadForm(forms.Form):
    file = forms.FileField(
        allow_empty_file=True, error_messages={"required": "Choose a file to upload."}
    )
