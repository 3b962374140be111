"""What is kept of a work directory, and folders in it that code has closed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cmbagent import workdir
from cmbagent.workdir import Unsafe


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def test_bytes_are_kept_by_the_digest_of_what_was_copied(root: Path, blobs: Path) -> None:
    data = os.urandom(3 << 20)
    (root / "data.npy").write_bytes(data)
    stored = workdir.store(root, "data.npy", blobs, max_bytes=4 << 20)
    assert stored == workdir.Stored(hashlib.sha256(data).hexdigest(), len(data))
    assert (blobs / stored.sha256[:2] / stored.sha256).read_bytes() == data
    assert workdir.store(root, "data.npy", blobs, max_bytes=4 << 20) == stored


def test_a_file_that_is_too_large_leaves_nothing(root: Path, blobs: Path) -> None:
    with (root / "endless").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(Unsafe, match="larger than 1,000 bytes"):
        workdir.store(root, "endless", blobs, max_bytes=1000)
    assert list(blobs.rglob("*")) == []


def test_a_file_of_holes_takes_no_space(root: Path, blobs: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"data")
        file.truncate(100_000_001)
    stored = workdir.store(root, "sparse", blobs, max_bytes=200 << 20)
    blob = blobs / stored.sha256[:2] / stored.sha256
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == stored.sha256
    assert stored.size == blob.stat().st_size == 100_000_001
    assert blob.stat().st_blocks * 512 < 4 << 20


def test_what_is_too_large_by_its_size_is_not_read(
    root: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "big").write_bytes(bytes(2000))
    monkeypatch.setattr(os, "read", None)
    with pytest.raises(Unsafe, match="larger than 1,000 bytes"):
        workdir.store(root, "big", blobs, max_bytes=1000)


def test_copying_can_be_stopped(root: Path, blobs: Path) -> None:
    (root / "big").write_bytes(bytes(3 << 20))
    answers = iter([False, True])
    with pytest.raises(Unsafe, match="stopped"):
        workdir.store(root, "big", blobs, max_bytes=4 << 20, stop=lambda: next(answers))
    assert list(blobs.rglob("*")) == []


CLOSED = """
import os, sys
from pathlib import Path
from cmbagent import workdir
if os.geteuid() == 0:
    os.setresuid(54321, 54321, 54321)
root = Path(sys.argv[1])
(root / "work" / "runs").mkdir(parents=True)
(root / "upload").touch()
for mode in (0, 0o444, 0o555):
    (root / "work" / "runs").chmod(mode)
    (root / "work").chmod(mode)
    workdir.list_files(root / "work", max_files=10)
    workdir.copy_in(root / "work", f"runs/{mode}", root / "upload")
    assert f"runs/{mode}" in workdir.list_files(root / "work", max_files=10).files
"""


def test_an_ordinary_user_gets_into_folders_that_code_has_closed() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        command = [sys.executable, "-c", CLOSED, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
