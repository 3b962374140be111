"""The environment for executed code: made from a lock, remade when it does not fit, never half."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmbagent import environment
from cmbagent.environment import InstallFailed, install, state

SCRIPT = environment.__file__


def tell_nobody(_: str) -> None:
    pass


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """An empty lock: making a real environment of it takes a second or two and no network."""
    path = tmp_path / "science.txt"
    path.write_text("# nothing\n")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "place with spaces" / "env"
    path.parent.mkdir()
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An environment made once, for tests that leave it as it is; and its lock."""
    folder = tmp_path_factory.mktemp("made")
    lock = folder / "science.txt"
    lock.write_text("# nothing\n")
    (folder / "parent").mkdir()
    install(folder / "parent" / "env", [lock], tell_nobody)
    return folder / "parent" / "env", lock


@pytest.fixture
def ready(made: tuple[Path, Path]) -> Iterator[tuple[Path, Path]]:
    """The same with a witness in it: who finds it gone knows that it was made anew."""
    (made[0] / "witness").touch()
    yield made
    (made[0] / "witness").unlink(missing_ok=True)


def test_absent_before_anything_was_done(place: Path, lock: Path) -> None:
    found = state(place, lock)
    assert (found.state, found.remedy) == ("absent", "make science")


def test_a_ready_environment_runs_and_is_left_alone(ready: tuple[Path, Path]) -> None:
    path, lock = ready
    told: list[str] = []
    assert state(path, lock).state == "ready"
    install(path, [lock], told.append)
    assert (path / "witness").exists()
    assert told == []
    assert subprocess.run([path / "bin" / "python", "-c", ""], check=False).returncode == 0


def test_a_further_lock_is_added(ready: tuple[Path, Path], tmp_path: Path) -> None:
    path, lock = ready
    more = tmp_path / "dev.txt"
    more.write_text("# more\n")
    install(path, [lock, more], tell_nobody)
    assert (path / "witness").exists()
    assert state(path, lock).state == state(path, more).state == "ready"


def test_an_addition_that_fails_leaves_what_was_there(
    ready: tuple[Path, Path], tmp_path: Path
) -> None:
    path, lock = ready
    more = tmp_path / "wrong.txt"
    more.write_text("not a requirement\n")
    with pytest.raises(InstallFailed):
        install(path, [lock, more], tell_nobody)
    assert state(path, lock).state == "ready"


def test_a_moved_environment_does_not_fit(ready: tuple[Path, Path]) -> None:
    path, lock = ready
    moved = path.parent.rename(path.parent.with_name("moved"))
    found = state(moved / path.name, lock)
    moved.rename(path.parent)
    assert found.state == "absent"


def test_an_environment_without_its_python_does_not_fit(ready: tuple[Path, Path]) -> None:
    path, lock = ready
    python = path / "bin" / "python"
    gone = python.rename(python.with_name("gone"))
    found = state(path, lock)
    gone.rename(python)
    assert found.state == "absent"


def test_remade_when_the_lock_changes(ready: tuple[Path, Path]) -> None:
    path, lock = ready
    lock.write_text("# something else\n")
    assert state(path, lock).state == "absent"
    install(path, [lock], tell_nobody)
    assert state(path, lock).state == "ready"
    assert not (path / "witness").exists()


def test_a_failure_says_why_leaves_nothing_and_is_tried_again(
    place: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as good as no network, and at once
    lock.write_text(f"numpy==2.4.6 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(InstallFailed):
        install(place, [lock], tell_nobody)
    found = state(place, lock)
    assert found.state == "failed"
    assert "No matching distribution" in found.detail
    assert not place.exists()
    lock.write_text("# good\n")
    install(place, [lock], tell_nobody)
    assert state(place, lock).state == "ready"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "The disk is full."),
        ("THESE PACKAGES DO NOT MATCH: x do not match the hashes", "not the ones in the lock"),
        ("WARNING: Retrying after NewConnectionError: [Errno 101]", "No package index"),
        ("ERROR: No matching distribution found for camb", "No file built for Python 3"),
    ],
)
def test_the_cause_is_told_in_a_sentence(line: str, sentence: str) -> None:
    assert sentence in environment._explain(["Collecting camb", line, ""])


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("Collecting camb==2.0.5 (from -r science.txt (line 14))", "looking for camb"),
        ("  Downloading scipy-1.17.1-cp311-x.whl (35.0 MB)", "downloading scipy 1.17.1 (35.0 MB)"),
        ("  Downloading scipy-1.17.1-cp311-x.whl", "downloading scipy 1.17.1"),
        ("Installing collected packages: a, b, c", "installing 3 packages"),
        ("  Using cached numpy-2.4.6-cp311-x.whl (16.8 MB)", ""),
    ],
)
def test_progress_in_few_words(line: str, step: str) -> None:
    assert environment._step(line) == step


def wait_until_told(place: Path, lock: Path) -> None:
    """A moment before, the lock is held and nothing is written: killed then, it did nothing yet."""
    deadline = time.monotonic() + 30
    while state(place, lock).detail in {"It was never made.", "starting"}:
        assert time.monotonic() < deadline, state(place, lock)
        time.sleep(0.01)


def test_a_killed_installer_is_seen_and_mended(place: Path, lock: Path) -> None:
    argv = [sys.executable, "-I", SCRIPT, "install", str(place), str(lock)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as installer:
        wait_until_told(place, lock)
        installer.send_signal(signal.SIGKILL)
    found = state(place, lock)
    assert found.state == "failed"
    assert "Interrupted" in found.detail
    install(place, [lock], tell_nobody)
    assert state(place, lock).state == "ready"


def test_who_comes_second_waits(place: Path, lock: Path) -> None:
    with (place.parent / "env.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert state(place, lock).state == "installing"
        argv = [sys.executable, "-I", SCRIPT, "install", str(place), str(lock)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout
            assert "waiting for another installation" in second.stdout.readline()
            assert second.poll() is None
            fcntl.flock(held, fcntl.LOCK_UN)
            second.communicate(timeout=60)
            assert second.returncode == 0
    assert state(place, lock).state == "ready"


@pytest.mark.parametrize("garbage", ["", "[]", "null", '{"state": "ready"}', "\x00"])
def test_a_broken_record_counts_as_none(place: Path, lock: Path, garbage: str) -> None:
    (place.parent / "env.state.json").write_text(garbage)
    assert state(place, lock).state == "absent"


def test_the_command_says_what_to_do_and_exits_with_1(place: Path, lock: Path) -> None:
    lock.write_text("not a requirement\n")
    argv = [sys.executable, "-I", SCRIPT, "install", str(place), str(lock)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "could not be made" in ended.stdout
    assert json.loads((place.parent / "env.state.json").read_text())["state"] == "failed"
