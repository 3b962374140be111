"""Where the sandbox works, what it refuses to show, and what it says when it cannot be had."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmbagent.sandbox import probe, visible
from tests.cmbagent.sandbox_cases import (
    CASES,
    CONFINED,
    ENGINE,
    Case,
    every,
    place,
    run,
)
from tests.cmbagent.sandbox_engine import PYTHON

LOOK = """
import os, sys
open("made", "w").write("x")
print(os.path.exists(sys.argv[1]) and open(sys.argv[1]).read())
"""
ROOT_CASES = [case for case in CASES if case.root]
LEVEL_2 = [case for case in CASES if case.level == 2]


def test_this_machine_confines_code() -> None:
    found = probe([PYTHON])
    assert found.level in (1, 2)
    assert found.tried[found.level] == "ok"
    assert found.remedy == ""


@pytest.fixture
def no_level(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without bubblewrap, on a processor whose system calls nobody has listed."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with tempfile.TemporaryDirectory() as empty:
        monkeypatch.setenv("TMPDIR", empty)
        yield


@pytest.mark.usefixtures("no_level")
def test_a_folder_that_code_may_not_read_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    closed = tmp_path / "science"
    closed.mkdir(mode=0o700)
    found = probe([str(closed)])
    assert "bubblewrap is not installed" in found.tried[1]
    if os.geteuid() == 0:
        assert found.level is None
        assert str(closed) in found.tried[2]
        assert "CMBAGENT_SANDBOX=3" in found.remedy


@every(ROOT_CASES)
def test_it_works_below_a_folder_that_only_root_may_enter(case: Case) -> None:
    before = os.umask(0o077)
    try:
        with place(case, closed=True) as found:
            data = found.root / "data"
            data.mkdir()
            (data / "map.txt").write_text("a map\n")
            data.chmod(0o755)
            (data / "map.txt").chmod(0o644)
            words = str(data / "map.txt")
            result = run(case, found.work, LOOK, words, readable=[str(data)])
            assert result.lines[:1] == ["a map"], result
            made = found.work / "made"
            assert made.stat().st_uid == case.code_user
            assert made.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


@every(ROOT_CASES)
def test_what_lies_beside_it_stays_closed(case: Case) -> None:
    with place(case, closed=True) as found:
        found.secret.chmod(0o644)  # the closed folder alone protects it
        result = run(case, found.work, LOOK, str(found.secret))
        assert result.lines == ["False"]


@every([case for case in ROOT_CASES if case.level > 1])
def test_a_root_that_may_not_mount_says_what_is_in_the_way(case: Case) -> None:
    with place(case, closed=True) as found:
        result = run(case, found.work, LOOK, "x", without="unshare mount")
        assert result.ending is None
        assert result.failed is not None
        assert "only root may enter" in result.failed


@every(CASES)
def test_the_work_directory_may_be_named_through_a_link(case: Case) -> None:
    with place(case) as found:
        link = found.root / "link"
        link.symlink_to(found.work)
        os.chown(link, case.engine_user, case.engine_user, follow_symlinks=False)
        result = run(case, link, LOOK, str(link / "made"))
        assert result.lines == ["x"], result


@every(CONFINED)
def test_a_readable_folder_that_holds_the_sessions_is_refused(case: Case) -> None:
    with place(case) as found:
        result = run(case, found.work, LOOK, "x", readable=[str(found.root)])
        assert result.failed is not None
        assert "which all executed code may read" in result.failed


@every(CASES)
def test_a_program_that_is_not_there_is_told(case: Case) -> None:
    with place(case) as found:
        result = run(case, found.work, "", argv=["/nonexistent/python"])
        assert result.ending is None
        assert result.failed == "/nonexistent/python: No such file or directory"


@every(CASES)
def test_how_it_ended_is_told(case: Case) -> None:
    with place(case) as found:
        left = run(case, found.work, "import sys\nsys.exit(3)").ending
        assert left is not None
        assert (left.exit_code, left.signal, left.ended_by) == (3, None, "exit")
        died = run(case, found.work, "import os\nos.kill(os.getpid(), 11)").ending
        assert died is not None
        assert (died.exit_code, died.signal, died.ended_by) == (None, 11, "signal")


@every(CASES)
def test_a_link_in_place_of_the_temporary_folder_is_not_followed(case: Case) -> None:
    with place(case) as found:
        (found.work / ".tmp").symlink_to(found.neighbour)
        result = run(case, found.work, "import os\nopen(os.environ['TMPDIR'] + '/x', 'w').close()")
        assert result.ending is not None
        assert result.ending.exit_code == 0, result
        assert [file.name for file in found.neighbour.iterdir()] == ["result.csv"]
        assert not (found.work / ".tmp").exists()


@every(CASES)
def test_a_nest_in_the_temporary_folder_is_removed(case: Case) -> None:
    """Deeper than a path can be long; its folders shut."""
    nest = (
        "import os\nos.chdir(os.environ['TMPDIR'])\n"
        "for _ in range(1200):\n  os.mkdir('n' * 40)\n  os.chdir('n' * 40)\n"
        "open('f', 'w').close()\nos.chmod('..', 0)\n"
    )
    with place(case) as found:
        assert run(case, found.work, nest, files=5000).ending is not None
        assert not (found.work / ".tmp").exists()


NO_NAMESPACES = """
import os, sys
secret = sys.argv[1]
for attempt in (
    lambda: os.chmod(secret, 0o777),
    lambda: os.chown(secret, os.getuid(), os.getgid()),
    lambda: os.setxattr(secret, "user.x", b"x"),
    lambda: open(secret).read() and print("read"),
    lambda: open("/dev/shm/" + os.path.basename(os.path.dirname(secret)), "w"),
):
    try:
        attempt()
    except OSError:
        pass
print("tried")
"""


@every(LEVEL_2)
def test_level_2_needs_no_namespaces(case: Case) -> None:
    """As in a container, or where only installed programs may make namespaces."""
    with place(case) as found:
        before = found.secret.stat()
        result = run(case, found.work, NO_NAMESPACES, str(found.secret), without="unshare mount")
        assert result.lines == ["tried"], result
        after = found.secret.stat()
        assert (after.st_mode, after.st_ctime_ns) == (before.st_mode, before.st_ctime_ns)


@every(LEVEL_2)
def test_level_2_is_refused_without_landlock(case: Case) -> None:
    with place(case) as found:
        result = run(case, found.work, LOOK, "x", without="landlock_create_ruleset")
        assert result.ending is None
        assert result.failed is not None
        assert "no Landlock" in result.failed


def test_links_on_the_way_are_found(tmp_path: Path) -> None:
    real = tmp_path / "real" / "bin"
    real.mkdir(parents=True)
    (tmp_path / "one").symlink_to("two/bin")
    (tmp_path / "two").symlink_to(tmp_path / "real")
    (tmp_path / "loop").symlink_to("loop")
    view = visible.View([str(tmp_path / "one"), str(tmp_path / "loop"), str(tmp_path / "absent")])
    assert view.places == [str(real)]
    assert view.links[str(tmp_path / "one")] == "two/bin"
    assert view.links[str(tmp_path / "two")] == str(tmp_path / "real")


def test_an_interpreter_in_a_home_does_not_show_the_home(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").touch()
    shown = visible.of_interpreter(str(tmp_path / "bin" / "python3"))
    assert str(tmp_path) not in shown
    assert str(tmp_path / "lib") in shown


def test_the_base_of_an_environment_is_shown() -> None:
    if sys.prefix != sys.base_prefix:
        assert f"{sys.base_prefix}/lib" in visible.of_interpreter(sys.executable)
    assert Path(ENGINE).is_file()


@every(CASES)
def test_a_work_directory_that_code_has_closed_is_opened_again(case: Case) -> None:
    with place(case) as found:
        closed = run(
            case, found.work, "import os\nos.mkdir('d')\nos.chmod('.', 0)\nprint('closed')"
        )
        assert closed.lines == ["closed"], closed
        assert found.work.stat().st_mode & 0o7777 == 0o755
        found.work.chmod(0)  # as a launcher that was killed would have left it
        assert run(case, found.work, LOOK, "made").lines == ["x"]
