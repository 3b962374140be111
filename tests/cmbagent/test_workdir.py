"""The one safe opener, against what hostile code leaves behind and against code that goes on."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cmbagent import workdir
from cmbagent.workdir import Unsafe

SECRET = b"the server's secret"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret_key"
    file.write_bytes(SECRET)
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def content(root: Path, path: str) -> bytes:
    descriptor = workdir.open_regular(root, path)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def refusal(root: Path, path: str) -> str:
    with pytest.raises(Unsafe) as caught:
        workdir.open_regular(root, path)
    return str(caught.value)


def test_a_regular_file_is_opened(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "plot.png").write_bytes(b"png")
    assert content(root, "a/b/plot.png") == b"png"


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../secret_key", "a/../../secret_key", "a//b", "./a", "a\0b"]
)
def test_a_path_leads_down_only(root: Path, secret: Path, path: str) -> None:
    assert secret.exists()
    assert refusal(root, path) == "not a path below the work directory"


def test_a_link_is_not_followed(root: Path, secret: Path) -> None:
    (root / "link").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    assert "cannot be opened" in refusal(root, "link")
    assert refusal(root, "folder/secret_key") == "folder is no folder"


def test_a_second_name_is_refused(root: Path, secret: Path) -> None:
    (root / "linked").hardlink_to(secret)
    assert refusal(root, "linked") == "it has more than one name"


def test_what_would_block_is_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "pipe")
    begun = time.monotonic()
    assert refusal(root, "pipe") == "not a regular file but a pipe"
    assert time.monotonic() - begun < 1


def test_what_is_no_file_is_refused(root: Path) -> None:
    (root / "folder").mkdir()
    assert refusal(root, "folder") == "not a regular file but a folder"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{os.open(root, os.O_PATH)}/socket")
    assert "cannot be opened" in refusal(root, "socket")
    assert "cannot be opened" in refusal(root, "absent")


def test_a_device_is_refused(root: Path) -> None:
    """Making one takes root; a terminal's is one that everybody has."""
    leader, follower = os.openpty()
    folder, name = os.path.split(os.ttyname(follower))
    assert refusal(Path(folder), name) == "not a regular file but a device"
    os.close(leader)
    os.close(follower)


def test_a_file_is_written_with_its_folders(root: Path) -> None:
    before = os.umask(0o077)
    try:
        workdir.write_new(root, "runs/1/block_1.py", b"print(1)\n")
    finally:
        os.umask(before)
    file = root / "runs" / "1" / "block_1.py"
    assert file.read_bytes() == b"print(1)\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.parent.stat().st_mode & 0o777 == 0o755
    assert list(file.parent.iterdir()) == [file]


def test_a_file_is_given_to_the_codes_user(root: Path) -> None:
    uid = 1_912_345_678 if os.geteuid() == 0 else os.geteuid()
    workdir.write_new(root, "runs/input.txt", b"x", uid=uid)
    assert (root / "runs" / "input.txt").stat().st_uid == uid
    assert (root / "runs").stat().st_uid == uid


def test_writing_replaces_a_link_and_does_not_follow_it(root: Path, secret: Path) -> None:
    (root / "result.txt").symlink_to(secret)
    workdir.write_new(root, "result.txt", b"new")
    assert secret.read_bytes() == SECRET
    assert (root / "result.txt").read_bytes() == b"new"
    assert not (root / "result.txt").is_symlink()


def test_writing_does_not_go_through_a_linked_folder(root: Path, secret: Path) -> None:
    (root / "runs").symlink_to(secret.parent)
    workdir.write_new(root, "runs/secret_key", b"new")
    assert secret.read_bytes() == SECRET
    assert content(root, "runs/secret_key") == b"new"
    assert [moved.is_symlink() for moved in root.glob("runs.moved-*")] == [True]


def test_what_takes_a_folders_name_is_moved_out_of_the_way(root: Path) -> None:
    (root / "runs").write_bytes(b"no folder")
    (root / "taken").mkdir()
    workdir.write_new(root, "runs/2/block_1.py", b"new")
    workdir.write_new(root, "taken", b"new")
    assert content(root, "runs/2/block_1.py") == b"new"
    assert content(root, "taken") == b"new"
    assert [moved.read_bytes() for moved in root.glob("runs.moved-*")] == [b"no folder"]
    assert [moved.is_dir() for moved in root.glob("taken.moved-*")] == [True]


def test_copying_over_a_folder_leaves_nothing_behind(root: Path, secret: Path) -> None:
    (root / "taken").mkdir()
    with pytest.raises(Unsafe, match="taken is in the way"):
        workdir.copy_in(root, "taken", secret)
    assert list(root.iterdir()) == [root / "taken"]


def test_a_file_of_ours_is_copied_in(root: Path, secret: Path) -> None:
    workdir.copy_in(root, "upload.bin", secret)
    assert content(root, "upload.bin") == SECRET


def test_the_listing_says_what_it_leaves_out(root: Path, secret: Path) -> None:
    (root / "plot.png").write_bytes(b"png")
    (root / "link").symlink_to(secret)
    (root / "linked").hardlink_to(secret)
    os.mkfifo(root / "pipe")
    for ignored in (".tmp", ".cache", "__pycache__"):
        (root / ignored).mkdir()
        (root / ignored / "x").touch()
    listing = workdir.list_files(root, max_files=100)
    assert list(listing.files) == ["plot.png"]
    assert listing.files["plot.png"].size == 3
    assert dict(listing.skipped) == {
        "link": "not a regular file but a symbolic link",
        "linked": "it has more than one name",
        "pipe": "not a regular file but a pipe",
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"plot\n.png", "plot\\u000a.png"),
        ("gnp.\u202egpj.exe".encode(), "gnp.\\u202egpj.exe"),
        ("zero\u200bwidth".encode(), "zero\\u200bwidth"),
        (b"\x1b[2J", "\\u001b[2J"),
        (b"\xff\xfe", "\\udcff\\udcfe"),
    ],
)
def test_a_misleading_name_is_skipped_and_made_visible(root: Path, name: bytes, shown: str) -> None:
    (root / os.fsdecode(name)).touch()
    listing = workdir.list_files(root, max_files=100)
    assert listing.files == {}
    assert listing.skipped == [(shown, "its name has characters that cannot be seen")]


def test_names_of_all_scripts_are_listed(root: Path) -> None:
    names = {"Überblick.txt", "グラフ.png", "график.csv", "a b.txt", "it's.txt"}
    for name in names:
        (root / name).touch()
    assert set(workdir.list_files(root, max_files=100).files) == names


def test_the_listing_is_bounded(root: Path) -> None:
    for number in range(30):
        (root / f"{number:02}").touch()
    listing = workdir.list_files(root, max_files=20)
    assert (len(listing.files), len(listing.skipped)) == (20, 10)
    assert listing.skipped[0] == ("20", "more than 20 files")


def test_a_nest_deeper_than_any_path_is_not_climbed(root: Path) -> None:
    folder = os.open(root, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("n" * 40, dir_fd=folder)
        inner = os.open("n" * 40, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    listing = workdir.list_files(root, max_files=100)
    assert [reason for _, reason in listing.skipped] == ["more than 50 folders deep"]


@pytest.mark.parametrize(
    ("path", "kind", "mime"),
    [
        ("spectrum.PNG", "plot", "image/png"),
        ("runs/1/cls.csv", "data", "text/csv"),
        ("block_1.py", "code", "text/x-python"),
        ("notes.md", "report", "text/markdown"),
        ("run.log", "log", "text/plain"),
        ("paper.docx", "document", "application/octet-stream"),
        ("Makefile", "other", "application/octet-stream"),
        ("map.fits", "data", "application/fits"),
    ],
)
def test_kinds(path: str, kind: str, mime: str) -> None:
    assert workdir.classify(path) == (kind, mime)


def swaps(work: Path, secret: Path) -> list[Callable[[str], None]]:
    def fifo(name: str) -> None:
        os.mkfifo(work / name)

    def regular(name: str) -> None:
        (work / name).write_bytes(b"harmless")

    def pointer(name: str) -> None:
        (work / name).symlink_to(secret)

    def second_name(name: str) -> None:
        (work / name).hardlink_to(secret)

    def folder(name: str) -> None:
        (work / name).mkdir()

    return [regular, pointer, second_name, fifo, folder, regular]


@contextmanager
def swapping(work: Path, secret: Path, name: str) -> Iterator[None]:
    """A thread that puts one thing after the other under the same name, in one step each."""
    stop = threading.Event()
    makers = swaps(work, secret)

    def swap_on() -> None:
        number = 0
        while not stop.is_set():
            makers[number % len(makers)](f".next{number}")
            _replace(work / f".next{number}", work / name)
            number += 1
            time.sleep(0.05 if number % 12 == 1 else 0)  # now and then it looks trustworthy

    thread = threading.Thread(target=swap_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _replace(new: Path, old: Path) -> None:
    """A folder and a file cannot replace each other in one step."""
    try:
        new.rename(old)
    except OSError:
        if old.is_dir() and not old.is_symlink():
            old.rmdir()
        else:
            old.unlink()
        new.rename(old)


def test_a_file_swapped_at_any_moment_never_gives_the_secret(
    root: Path, secret: Path, blobs: Path
) -> None:
    (root / "result.csv").write_bytes(b"harmless")
    seen, deadline = set(), time.monotonic() + 2
    with swapping(root, secret, "result.csv"):
        while time.monotonic() < deadline:
            workdir.list_files(root, max_files=100)
            seen.add(_attempt(lambda: content(root, "result.csv")))
            seen.add(_attempt(lambda: _stored(root, blobs)))
    assert SECRET not in seen
    assert b"harmless" in seen
    assert len(seen) > 3  # the swapping was quick enough to be met in different states
    assert not [blob for blob in blobs.rglob("*") if blob.is_file() and blob.read_bytes() == SECRET]


def _attempt(reading: Callable[[], bytes]) -> bytes:
    try:
        return reading()
    except Unsafe as error:
        return str(error).encode()


def _stored(root: Path, blobs: Path) -> bytes:
    stored = workdir.store(root, "result.csv", blobs, max_bytes=1000)
    return (blobs / stored.sha256[:2] / stored.sha256).read_bytes()


def test_a_folder_swapped_with_a_link_is_never_followed(root: Path, secret: Path) -> None:
    """The name of the secret is asked for in a folder that is sometimes the secret's."""
    outside = secret.parent
    (root / "real").mkdir()
    (root / "real" / "secret_key").write_bytes(b"harmless")
    (root / "link").symlink_to(outside)
    stop = threading.Event()

    def swap_on() -> None:
        while not stop.is_set():
            for there in ("real", "link"):
                (root / there).rename(root / "current")
                (root / "current").rename(root / there)

    thread = threading.Thread(target=swap_on)
    thread.start()
    seen, deadline = set(), time.monotonic() + 1.5
    while time.monotonic() < deadline:
        try:
            seen.add(content(root, "current/secret_key"))
            listing = workdir.list_files(root, max_files=100)
            assert "current/blobs" not in listing.files
        except Unsafe:
            continue
    stop.set()
    thread.join()
    assert seen == {b"harmless"}


def test_a_folder_that_a_killed_engine_left_half_made_is_handed_over(tmp_path: Path) -> None:
    """Killed between making a folder and giving it away, an engine leaves it closed."""
    (tmp_path / "runs").mkdir(mode=0o700)
    uid = 54_321 if os.geteuid() == 0 else None

    workdir.write_new(tmp_path, "runs/1/block-1.py", b"print(1)", uid=uid)

    found = (tmp_path / "runs").stat()
    assert found.st_mode & 0o777 == 0o755
    assert found.st_uid == (uid or os.geteuid())
