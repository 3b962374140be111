"""Which files are a run's own, and what happens to those that cannot be kept."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_django import Settings

from execution_app.collector import Collector


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    return tmp_path / "baselines" / "1.json"


def paths(collector: Collector) -> list[str]:
    return [file.path for file in collector.collect().files]


def test_what_was_there_before_is_not_the_runs(work: Path, baseline: Path) -> None:
    (work / "uploaded.csv").write_text("1")
    collector = Collector(work, baseline)
    (work / "plot.png").write_text("2")

    assert paths(collector) == ["plot.png"]
    assert paths(collector) == [], "once is enough"


def test_what_is_written_again_is_taken_again(work: Path, baseline: Path) -> None:
    (work / "data.csv").write_text("1")
    collector = Collector(work, baseline)
    before = (work / "data.csv").stat()
    (work / "data.csv").write_text("2")
    os.utime(work / "data.csv", ns=(before.st_atime_ns, before.st_mtime_ns))  # it may lie

    assert paths(collector) == ["data.csv"]


def test_a_recovered_run_knows_its_own_files(work: Path, baseline: Path) -> None:
    (work / "uploaded.csv").write_text("1")
    Collector(work, baseline)
    (work / "made-before-the-kill.csv").write_text("2")

    assert paths(Collector(work, baseline)) == ["made-before-the-kill.csv"]


def test_a_torn_baseline_is_made_anew(work: Path, baseline: Path) -> None:
    baseline.parent.mkdir()
    baseline.write_text('{"a": [1, 2')

    assert paths(Collector(work, baseline)) == []


def test_bytes_are_kept_once(work: Path, baseline: Path, settings: Settings) -> None:
    collector = Collector(work, baseline)
    (work / "one.txt").write_text("same")
    (work / "two.txt").write_text("same")

    collected = collector.collect().files

    assert len({file.sha256 for file in collected}) == 1
    blobs = [path for path in Path(settings.BLOBS_DIR).rglob("*") if path.is_file()]
    assert [path.read_text() for path in blobs] == ["same"]


def test_links_and_pipes_are_left_out_by_name(work: Path, baseline: Path) -> None:
    collector = Collector(work, baseline)
    (work / "secret").symlink_to("/etc/shadow")
    os.mkfifo(work / "pipe")

    collection = collector.collect()

    assert collection.files == []
    assert {entry["path"] for entry in collection.skipped} == {"secret", "pipe"}


def test_no_room_for_a_file_is_said_and_loses_no_other(work: Path, baseline: Path) -> None:
    collector = Collector(work, baseline)
    (work / "huge.bin").write_bytes(b"x" * 2_000_000)
    (work / "small.txt").write_text("fits")

    with files_of_at_most(1_000_000):
        collection = collector.collect()

    assert [file.path for file in collection.files] == ["small.txt"]
    assert [entry["path"] for entry in collection.skipped] == ["huge.bin"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writes beyond it fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_sparse_files_do_not_fill_the_servers_disk(
    work: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty kilobytes of the code's own quota may look like gigabytes."""
    monkeypatch.setattr("execution_app.collector.MAX_COLLECTION_BYTES", 3_000_000)
    collector = Collector(work, baseline)
    for n in range(5):
        with (work / f"sparse-{n}").open("wb") as file:
            file.truncate(1_000_000)

    collection = collector.collect()

    assert len(collection.files) == 3
    assert [entry["reason"].partition(":")[0] for entry in collection.skipped] == [
        "no room for it",
        "no room for it",
    ]


def test_a_file_beyond_the_bound_is_not_even_opened(
    work: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("execution_app.collector.MAX_FILE_BYTES", 10)
    monkeypatch.setattr("cmbagent.workdir.store", None)
    collector = Collector(work, baseline)
    (work / "large").write_text("x" * 11)

    assert "larger than" in collector.collect().skipped[0]["reason"]


def test_an_ended_run_leaves_out_what_it_has_no_time_for(work: Path, baseline: Path) -> None:
    collector = Collector(work, baseline)
    (work / "a").write_text("x")
    collector.finish_within(-1)

    assert "ended before" in collector.collect().skipped[0]["reason"]


def test_a_closed_folder_is_said(work: Path, baseline: Path, tmp_path: Path) -> None:
    collector = Collector(work, baseline)
    work.rmdir()
    work.symlink_to(tmp_path)

    assert [entry["path"] for entry in collector.collect().skipped] == ["the work directory"]
