"""What people type into pages, checked and named by field."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm

from sessions_app.config_fields import JsonSetting, settings_of
from sessions_app.modes import MODES

_FIELD = {"class": "field"}
NO_TASK = "none"
# As the list's chips call them: what became of the last task.
STATUSES_OF_LAST_RUN = [
    ("queued", "Queued"),
    ("running", "Running"),
    ("waiting_approval", "Waiting for you"),
    ("paused", "Paused"),
    ("completed", "Completed"),
    ("failed", "Failed"),
    ("cancelled", "Stopped"),
    (NO_TASK, "No task yet"),
]


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
    mode = forms.ChoiceField(
        required=False,
        choices=lambda: [("", "All"), *((mode.id, mode.label) for mode in MODES.values())],
        widget=forms.Select(attrs=_FIELD),
    )
    status = forms.ChoiceField(
        required=False,
        choices=[("", "All"), *STATUSES_OF_LAST_RUN],
        widget=forms.Select(attrs=_FIELD),
    )


class TaskForm(forms.Form):
    """A task for a session that is there already."""

    task = forms.CharField(
        strip=False,
        error_messages={"required": "The task is empty: say what shall be done."},
        widget=forms.Textarea(attrs={"class": "field task", "spellcheck": "false", "rows": 10}),
    )


class ManyFilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    """A list of files, empty when none came."""

    widget = ManyFilesInput

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        each = data if isinstance(data, list | tuple) else [data]
        return [super(ManyFilesField, self).clean(file, initial) for file in each if file]


class NewSessionForm(TaskForm):
    """With the settings of every mode; those of the mode that is chosen count."""

    mode = forms.ChoiceField(choices=lambda: [(mode.id, mode.label) for mode in MODES.values()])
    name = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={**_FIELD, "autocomplete": "off"}),
    )
    uploads = ManyFilesField(required=False, allow_empty_file=True)
    # Made with the page: the same page sent twice makes one session.
    once = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for mode in MODES.values():
            for name, field in settings_of(mode.config_schema).items():
                self.fields[_name(mode.id, name)] = field

    @staticmethod
    def initial_settings(mode: str, config: Mapping[str, Any]) -> dict[str, Any]:
        return {_name(mode, name): value for name, value in config.items()}

    def settings_by_mode(
        self,
    ) -> Iterator[tuple[str, list[forms.BoundField], list[forms.BoundField]]]:
        """Of each mode: its id, its fields, and those that are for programs."""
        for mode in MODES.values():
            prefix = _name(mode.id, "")
            fields = [self[name] for name in self.fields if name.startswith(prefix)]
            is_json = [isinstance(field.field, JsonSetting) for field in fields]
            plain = [field for field, json in zip(fields, is_json, strict=True) if not json]
            yield mode.id, plain, [f for f, json in zip(fields, is_json, strict=True) if json]

    def has_config_errors(self) -> bool:
        return any(name.startswith("config-") for name in self.errors)

    def config(self) -> dict[str, Any]:
        """What was set, as the mode's configuration has it."""
        prefix = _name(self.cleaned_data["mode"], "")
        given = {
            name.removeprefix(prefix): value
            for name, value in self.cleaned_data.items()
            if name.startswith(prefix)
        }
        return {name: value for name, value in given.items() if value is not None and value != ""}

    def refuse_config(self, problems: Mapping[str, str]) -> None:
        """Say what is wrong beside the field; for what has none, above the form."""
        for place, problem in problems.items():
            setting, _, rest = place.removeprefix("config.").partition(".")
            name = _name(self.cleaned_data["mode"], setting)
            if name in self.fields:
                self.add_error(name, f"{rest}: {problem}" if rest else problem)
            else:
                self.add_error(None, f"{place}: {problem}")


def _name(mode: str, setting: str) -> str:
    return f"config-{mode}-{setting}"


class UploadForm(forms.Form):
    file = forms.FileField(
        allow_empty_file=True, error_messages={"required": "Choose a file to upload."}
    )


class TokenForm(forms.Form):
    """A key for a program."""

    name = forms.CharField(
        max_length=100,
        error_messages={"required": "Give it a name: what shall use it?"},
        widget=forms.TextInput(attrs={**_FIELD, "autocomplete": "off"}),
    )
    days = forms.TypedChoiceField(
        coerce=int,
        empty_value=None,
        required=False,
        choices=[("", "Never"), ("30", "In 30 days"), ("90", "In 90 days"), ("365", "In a year")],
        widget=forms.Select(attrs=_FIELD),
    )
