"""The operator's log: one line a fact, with the ids of what it is about."""

from __future__ import annotations

import json
import logging.config
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from django.conf import settings
from django.test import Client
from structlog.contextvars import bound_contextvars

from cmbagent_site.logging import hide_tokens, logging_config
from execution_app.messages import log_for_engine
from tests.conftest import As, MakeRun, MakeSession

SPEAK = """
import structlog
from structlog.contextvars import bound_contextvars
import django
django.setup()
log = structlog.get_logger("a.module")
with bound_contextvars(run="r1", attempt=2):
    log.info("run_claimed", files=3)
    local = "a value " + "of a variable"
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("broken")
    log.info("link", url="http://host/?token=secret&x=1")
import logging
logging.getLogger("plain").warning("said %s", "plainly")
log.debug("not shown")
"""


def spoken(tmp_path: Path, **settings: str) -> list[str]:
    """What a process of ours writes for SPEAK."""
    done = subprocess.run(
        [sys.executable, "-c", SPEAK],
        env=os.environ
        | {"DJANGO_SETTINGS_MODULE": "cmbagent_site.settings", "CMBAGENT_DATA_DIR": str(tmp_path)}
        | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    "address",
    [
        "/sign-in/link/?token=abc",
        "/sign-in/link/?tok%65n=abc",
        "/sign-in/link/?x='&tok%65n=abc",
        "/sign%2Din/link/?tok%65n=abc",
        "http://host/sign-in/link/?a&%74oken=abc#top",
    ],
)
def test_a_link_that_signs_in_is_not_logged(address: str) -> None:
    shown = hide_tokens(None, "", {"request": f"GET {address} HTTP/1.1"})
    assert "abc" not in str(shown)
    assert str(shown["request"]).endswith("?[hidden] HTTP/1.1")


def test_other_queries_are_logged() -> None:
    event = {"request": "GET /sessions/?q=dust"}
    assert hide_tokens(None, "", event) == {"request": "GET /sessions/?q=dust"}


def test_a_long_address_is_looked_at_once() -> None:
    address = "/" + "a" * 60_000 + "'?x"
    began = time.process_time()
    hide_tokens(None, "", {"request": f"GET {address}"})
    assert time.process_time() - began < 5  # it took a minute


def test_a_foreign_host_is_one_warning(log_file: Path, db: None) -> None:
    assert Client(headers={"Host": "evil.example"}).get("/sign-in/").status_code == 400
    (line,) = [x for x in lines_of(log_file) if x["logger"] == "django.security.DisallowedHost"]
    assert (line["level"], "exception" in line) == ("warning", False)
    assert "evil.example" in line["event"]


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    """Where this process logs meanwhile, as JSON."""
    file = tmp_path / "log.json"
    logging.config.dictConfig(logging_config(level="INFO", json=True, file=str(file)))
    yield file
    logging.config.dictConfig(settings.LOGGING)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_json_is_one_object_a_line_with_its_context(tmp_path: Path) -> None:
    claimed, broken, link, plain = map(json.loads, spoken(tmp_path, LOG_JSON="1"))
    assert claimed.pop("timestamp").endswith("Z")
    assert claimed == {
        "event": "run_claimed",
        "level": "info",
        "logger": "a.module",
        "run": "r1",
        "attempt": 2,
        "files": 3,
    }
    assert "ZeroDivisionError" in broken["exception"]
    assert link["url"] == "http://host/?token=[hidden]&x=1"
    assert (plain["event"], plain["logger"], plain["level"]) == ("said plainly", "plain", "warning")


def test_readable_says_the_same_once(tmp_path: Path) -> None:
    text = "\n".join(spoken(tmp_path))
    for word in ("run_claimed", "run=r1", "attempt=2", "Traceback", "said plainly"):
        assert word in text
    assert text.count("run_claimed") == 1
    assert "not shown" not in text
    assert "a value of a variable" not in text  # as a traceback that shows locals would


def test_the_file_is_json_beside_readable_lines(tmp_path: Path) -> None:
    file = tmp_path / "log"
    spoken(tmp_path, LOG_FILE=str(file), LOG_LEVEL="DEBUG")
    ours = [line["event"] for line in lines_of(file) if line["logger"] in {"a.module", "plain"}]
    assert ours == ["run_claimed", "broken", "link", "said plainly", "not shown"]


def test_a_request_logs_who_asked_for_what(
    log_file: Path, api: As, alice: Any, make_session: MakeSession, make_run: MakeRun
) -> None:
    run = make_run(make_session(alice))
    api(alice).get(f"/api/runs/{run.pk}")
    finished = [line for line in lines_of(log_file) if line["event"] == "request_finished"][-1]
    assert finished["user_id"] == alice.pk
    assert finished["run_id"] == str(run.pk)
    assert finished["session_id"] == str(run.session_id)
    assert uuid.UUID(finished["request_id"]).int


def test_two_requests_do_not_share_their_ids(log_file: Path, db: None) -> None:
    for _ in range(2):
        Client().get("/api/health/live")
    finished = [line for line in lines_of(log_file) if line["event"] == "request_finished"]
    assert len({line["request_id"] for line in finished}) == 2


def test_an_engines_lines_have_the_ids_of_its_run(log_file: Path) -> None:
    with bound_contextvars(session_id="s1", run_id="r1", attempt=2):
        log_for_engine(
            {"t": "log", "level": "error", "event": "engine_failed", "fields": {"traceback": "…"}}
        )
    (line,) = lines_of(log_file)
    assert (line["event"], line["level"]) == ("engine_failed", "error")
    assert (line["session_id"], line["run_id"], line["attempt"]) == ("s1", "r1", 2)
    assert line["engine_traceback"] == "…"
    assert structlog.contextvars.get_contextvars() == {}
