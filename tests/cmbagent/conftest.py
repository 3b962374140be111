"""What the engine's tests share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def work_dir() -> Iterator[Path]:
    """A session's work directory. Not below tmp_path, which only its owner may enter: executed
    code is another user."""
    folder = Path(tempfile.mkdtemp(prefix="cmbagent-work-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where somebody starts a command; executed code may enter it."""
    tmp_path.chmod(0o755)
    return tmp_path
