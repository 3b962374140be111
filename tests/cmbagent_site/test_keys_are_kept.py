"""Keys of models are read once and shown nowhere: not by commands, debug pages or checks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter
from pytest_django import Settings

from cmbagent.models.choosing import ModelEnvironment
from execution_app.model_choice import models_for

KEY = "sk-of-tests-0123456789abcdef"
CONNECTED = {"OPENAI_API_KEY": KEY, "CMBAGENT_MODEL": "gpt-4o"}


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (["diffsettings", "--all"], "MODEL_ENVIRONMENT"),
        (["check"], "no issues"),
        (["shell", "-c", "from django.conf import settings; settings.NO_SUCH"], "NO_SUCH"),
    ],
)
def test_commands(tmp_path: Path, arguments: list[str], seen: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        env={**os.environ, **CONNECTED, "CMBAGENT_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert seen in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr


def test_debug_pages(settings: Settings) -> None:
    """A traceback page shows all settings and the variables of every frame."""
    settings.MODEL_ENVIRONMENT = ModelEnvironment(CONNECTED)
    request = RequestFactory().get("/")
    with pytest.raises(ZeroDivisionError) as raised:
        _fail_with_models_at_hand()
    report = ExceptionReporter(request, raised.type, raised.value, raised.tb)
    for page in (report.get_traceback_html(), report.get_traceback_text()):
        assert "MODEL_ENVIRONMENT" in page
        assert KEY not in page
    assert "gpt-4o" in report.get_traceback_html()


def _fail_with_models_at_hand() -> None:
    models = models_for({})
    key = models["default"]["api_key"]
    assert key == KEY
    _ = 1 / 0
