"""What people type into pages, checked and named by field."""

from __future__ import annotations

import uuid

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


class NewSessionForm(TaskForm):
    mode = forms.ChoiceField(choices=[(mode.id, mode.label) for mode in MODES.values()])
    name = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={**_FIELD, "autocomplete": "off"}),
    )
    # Made with the page: the same page sent twice makes one session.
    once = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)


class UploadForm(forms.Form):
    file = forms.FileField(
        allow_empty_file=True, error_messages={"required": "Choose a file to upload."}
    )
