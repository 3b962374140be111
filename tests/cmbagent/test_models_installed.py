"""`make models` adds what other providers need, and `make run` keeps it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cmbagent.models.choosing import PROVIDERS

BASE_DIR = Path(__file__).resolve().parents[2]
LOCKS = BASE_DIR / "requirements"


def locked(name: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", (LOCKS / name).read_text(), flags=re.MULTILINE)
    return dict(found)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile over an installer that only says what it is asked to install."""
    shutil.copy(BASE_DIR / "Makefile", tmp_path)
    for path, text in {"scripts/find-python": "echo echo", ".venv/bin/python": "true"}.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    return tmp_path


def installed_by(verb: str, checkout: Path) -> list[str]:
    done = subprocess.run(["make", verb], cwd=checkout, capture_output=True, text=True, check=True)
    return re.findall(r"requirements/(\w+)\.txt", done.stdout)


def test_make_models(checkout: Path) -> None:
    assert installed_by("models", checkout) == ["server", "models"]


def test_make_run_keeps_them_and_does_not_bring_them(checkout: Path) -> None:
    assert installed_by("run", checkout) == ["server"]
    record = checkout / ".venv.state.json"
    record.write_text('{"state": "ready", "locks": {"server.txt": "1"}}')
    assert installed_by("run", checkout) == ["server"]
    record.write_text('{"state": "ready", "locks": {"server.txt": "1", "models.txt": "2"}}')
    assert installed_by("run", checkout) == ["server", "models"]


def test_the_locks_agree() -> None:
    """They are installed into one environment."""
    models = locked("models.txt")
    for other in ("server.txt", "dev.txt"):
        common = models.keys() & locked(other).keys()
        assert common
        assert {name: models[name] for name in common} == {
            name: locked(other)[name] for name in common
        }
    assert {"anthropic", "google-genai", "mistralai"} <= models.keys()
    assert PROVIDERS.keys() == {"openai", "anthropic", "google", "mistral"}
    assert not {"anthropic", "google-genai", "mistralai"} & locked("server.txt").keys()
