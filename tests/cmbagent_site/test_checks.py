"""What is refused at start, and that each refusal says how to mend it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.checks import INFO, WARNING, CheckMessage, run_checks
from django.db import OperationalError
from pytest_django import Settings

from cmbagent.models import choosing
from cmbagent.models.choosing import ModelEnvironment
from cmbagent_site import checks
from cmbagent_site.environment import _write_once, keep_private
from tests.servers import PostgreSQL


def found(tag: str = "cmbagent", databases: list[str] | None = None) -> list[CheckMessage]:
    return run_checks(tags=[tag], databases=databases)


def only(number: str) -> CheckMessage:
    """The one message there is; every one has a remedy."""
    (message,) = found()
    assert message.id == f"cmbagent.{number}"
    assert message.hint
    return message


@pytest.fixture(autouse=True)
def sound(settings: Settings, tmp_path: Path) -> None:
    """Settings with nothing to object to; each test breaks one."""
    settings.SETTINGS_PROBLEMS = []
    settings.DATA_DIR = tmp_path / "var"
    settings.SECRET_KEY_FILE = settings.DATA_DIR / "secret_key"
    settings.DATA_ROOTS = []
    settings.HOST = "127.0.0.1"
    settings.PUBLIC_URL = "http://127.0.0.1:8000"
    settings.REDIS_URL = ""
    settings.DATA_DIR.mkdir(mode=0o700)


def test_sound_settings_pass() -> None:
    assert found() == []


def test_each_problem_of_the_settings_is_told_with_its_remedy(settings: Settings) -> None:
    settings.SETTINGS_PROBLEMS = [("PORT='x' is no number.", "Set PORT to 1 to 65535.")]
    message = only("E001")
    assert (message.msg, message.hint) == settings.SETTINGS_PROBLEMS[0]


def test_sqlite_on_a_network_file_system_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ON_SQLITE = True
    monkeypatch.setattr(checks, "file_system_of", lambda _: "nfs4")
    assert "nfs4" in only("E002").msg


def test_postgresql_leaves_the_file_system_free(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ON_SQLITE = False
    monkeypatch.setattr(checks, "file_system_of", lambda _: "nfs4")
    assert found() == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "cmb.example"])
def test_other_machines_only_with_tls(settings: Settings, host: str) -> None:
    settings.HOST = host
    only("E003")
    settings.PUBLIC_URL = "https://cmb.example"
    assert found() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_this_machine_needs_no_tls(settings: Settings, host: str) -> None:
    settings.HOST = host
    assert found() == []


def test_a_data_folder_that_cannot_be_written_is_refused(settings: Settings) -> None:
    settings.DATA_DIR = Path("/proc/var")
    assert "/proc/var" in only("E004").msg


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_data_folder_that_others_see_is_refused(settings: Settings, mode: int) -> None:
    settings.DATA_DIR.chmod(mode)
    assert str(settings.DATA_DIR) in only("E011").msg
    settings.DATA_DIR.chmod(0o700)
    assert found() == []


@pytest.mark.parametrize("there_before", [False, True])
def test_whichever_command_comes_first_closes_the_data_folder(
    tmp_path: Path, *, there_before: bool
) -> None:
    data = tmp_path / "first"
    if there_before:
        data.mkdir(mode=0o755)
    subprocess.run(
        [sys.executable, "manage.py", "check", "--tag", "cmbagent"],
        env={**os.environ, "CMBAGENT_DATA_DIR": str(data)},
        umask=0o022,
        check=True,
    )
    assert data.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_shared_on_purpose_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    keep_private(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_key_that_others_read_is_refused(settings: Settings, mode: int) -> None:
    settings.SECRET_KEY_FILE.write_text("key")
    settings.SECRET_KEY_FILE.chmod(mode)
    only("E005")
    settings.SECRET_KEY_FILE.chmod(0o600)
    assert found() == []


def test_a_data_root_that_is_absent_is_named(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_ROOTS = [tmp_path / "maps", tmp_path / "gone"]
    (tmp_path / "maps").mkdir()
    assert str(tmp_path / "gone") in only("E006").msg


@pytest.mark.parametrize("root", ["", "var", "var/sessions"])
def test_a_data_root_may_not_show_the_data_folder(
    settings: Settings, tmp_path: Path, root: str
) -> None:
    settings.DATA_ROOTS = [tmp_path / root]
    (tmp_path / root).mkdir(exist_ok=True)
    only("E007")


def test_a_link_to_the_data_folder_does_not_hide_it(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(settings.DATA_DIR)
    settings.DATA_ROOTS = [tmp_path / "link"]
    only("E007")


def test_the_data_folder_may_not_lie_in_what_code_may_read(
    settings: Settings, tmp_path: Path
) -> None:
    settings.SCIENCE_ENV = tmp_path
    only("E007")


@pytest.mark.parametrize("address", ["localhost:6379", "http://127.0.0.1", "redis"])
def test_redis_address(settings: Settings, address: str) -> None:
    settings.REDIS_URL = address
    only("E008")
    settings.REDIS_URL = "redis://127.0.0.1:6379/0"
    assert found() == []


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CMBAGENT_MODEL": "gpt-4o"}, ("no key for openai", "CMBAGENT_MODEL: Set OPENAI_API_KEY")),
        ({"CMBAGENT_MODEL": "gpt 4o"}, ("no name of a model", "CMBAGENT_MODEL: ")),
        ({"CMBAGENT_MODEL_COOK": "gpt-4o"}, ("no setting", "CMBAGENT_MODEL_ENGINEER")),
        ({"CMBAGENT_MODEL_PRICES": "gpt-4o=dear"}, ("gpt-4o=dear", "CMBAGENT_MODEL_PRICES: ")),
        ({"CMBAGENT_MODEL_TIMEOUT": "-1"}, ("CMBAGENT_MODEL_TIMEOUT", "seconds")),
        ({"OPENAI_BASE_URL": "vllm:8000"}, ("no web address", "OPENAI_BASE_URL: ")),
    ],
)
def test_models_that_cannot_be_used(
    settings: Settings, environ: dict[str, str], words: tuple[str, str]
) -> None:
    settings.MODEL_ENVIRONMENT = ModelEnvironment(environ)
    message = next(message for message in found() if message.id == "cmbagent.E012")
    assert message.is_serious()
    assert words[0] in message.msg
    assert words[1] in str(message.hint)


def test_a_library_that_is_not_installed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "_is_installed", lambda _: False)
    environ = {"CMBAGENT_MODEL": "mistral:x", "MISTRAL_API_KEY": "k"}
    settings.MODEL_ENVIRONMENT = ModelEnvironment(environ)
    assert "make models" in str(only("E012").hint)


def test_a_key_that_nobody_uses_is_told_and_refused_by_nothing(settings: Settings) -> None:
    settings.MODEL_ENVIRONMENT = ModelEnvironment({"OPENAI_API_KEY": "k"})
    message = only("I001")
    assert "OPENAI_API_KEY" in message.msg
    assert message.level == INFO


def test_a_key_that_travels_unencrypted(settings: Settings) -> None:
    environ = {"CMBAGENT_MODEL": "m", "OPENAI_API_KEY": "k"}
    settings.MODEL_ENVIRONMENT = ModelEnvironment(environ | {"OPENAI_BASE_URL": "http://lab/v1"})
    assert only("W001").level == WARNING
    settings.MODEL_ENVIRONMENT = ModelEnvironment(environ | {"OPENAI_BASE_URL": "https://lab/v1"})
    assert found() == []


class Unreachable:
    """PostgreSQL as it looks when nobody is at home."""

    vendor = "postgresql"

    def cursor(self) -> None:
        raise OperationalError("connection refused\nIs the server running?")


def test_a_database_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "connection", Unreachable())
    (message,) = checks.database_answers(None, databases=["default"])
    assert (message.id, message.msg) == (
        "cmbagent.E009",
        "The database does not answer: connection refused",
    )


def test_more_workers_than_postgresql_has_connections(postgres: PostgreSQL, tmp_path: Path) -> None:
    url = postgres.create_database("checked")
    assert asked(url, tmp_path, workers=8).returncode == 0
    refused = asked(url, tmp_path, workers=400)
    postgres.drop_database("checked")
    assert refused.returncode == 1
    assert "CMBAGENT_WORKERS=400 needs about 424 database connections" in refused.stderr


def asked(url: str, data: Path, *, workers: int) -> subprocess.CompletedProcess[str]:
    """What the command that operators know says of these settings."""
    settings = {
        "DATABASE_URL": url,
        "CMBAGENT_WORKERS": str(workers),
        "CMBAGENT_DATA_DIR": str(data),
    }
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--tag", "database", "--database", "default"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_secret_key_that_finds_no_room_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            _write_once(tmp_path / "new" / "secret_key", "x" * 50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "new").iterdir())
