"""The page that makes a session: modes, settings, files, examples."""

from __future__ import annotations

import html
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pydantic import Field
from pytest_django import Settings

from execution_app.models import Artifact, Run
from sessions_app import modes
from sessions_app.models import Session
from sessions_app.modes import MODES, Mode, ModeConfig

pytestmark = pytest.mark.django_db


class SurveyConfig(ModeConfig):
    deep: bool = Field(default=False, description="Look twice.")
    papers: int = Field(default=5, ge=1, le=50)


SURVEY = Mode(
    id="survey",
    label="Survey",
    with_model="Reads papers.",
    without_model="Reads papers, without a model.",
    supports_resume=True,
    supports_hitl=False,
    config=SurveyConfig,
    examples=[{"task": "Read about lensing.", "config": {"deep": True, "papers": 9}}],
)


@pytest.fixture
def tab(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def survey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(modes.MODES, "survey", SURVEY)


def new_form(**changes: Any) -> dict[str, Any]:
    return {"mode": "one-shot", "task": "print", "name": "", "once": str(uuid.uuid4())} | changes


def table(text: bytes = b"a,b\n1,2\n") -> SimpleUploadedFile:
    return SimpleUploadedFile("table.csv", text, content_type="text/csv")


def work_dir(session: Session, settings: Settings) -> Path:
    return Path(settings.SESSIONS_DIR) / str(session.pk) / "work"


# -- modes ------------------------------------------------------------------------------------
def test_every_mode_has_its_card_and_its_settings(tab: Client, survey: None) -> None:
    text = tab.get("/sessions/new/").text
    assert "Reads papers, without a model." in text
    assert re.findall(r'data-of-mode="([\w-]+)"', text) == ["one-shot", "survey"]
    assert 'name="config-survey-papers"' in text


def test_only_the_settings_of_the_chosen_mode_count(tab: Client, survey: None) -> None:
    sent = {
        "config-survey-deep": "on",
        "config-survey-papers": "7",
        "config-one-shot-maxRounds": "3",
    }
    tab.post("/sessions/new/", new_form(mode="survey", **sent))
    assert Session.objects.get().config == {"deep": True, "papers": 7}


def test_an_example_fills_task_mode_and_settings(tab: Client, survey: None) -> None:
    number = sum(len(mode.examples) for mode in MODES.values())
    text = tab.get("/sessions/new/", {"example": str(number)}).text
    assert re.search(r'value="survey" checked', text)
    assert re.search(r'name="config-survey-papers" value="9"', text)
    assert re.search(r'name="config-survey-deep"[^>]* checked', text)
    said = re.findall(r'data-mode="survey" data-config="([^"]*)"', text)
    assert [html.unescape(each) for each in said] == ['{"deep": true, "papers": 9}']


def test_what_was_typed_stays_when_something_is_wrong(tab: Client) -> None:
    sent = {"config-one-shot-maxRounds": "999", "config-one-shot-instructions": "blue lines"}
    answer = tab.post("/sessions/new/", new_form(task="my task", name="Mine", **sent))
    assert answer.status_code == 422
    for kept in ("my task", 'value="Mine"', 'value="999"', "blue lines"):
        assert kept in answer.text
    assert re.search(r'<details class="options"[^>]* open>', answer.text)


def test_a_wrong_part_of_a_json_setting_is_said_beside_it(tab: Client) -> None:
    sent = {"config-one-shot-parameters": '{"H0": "fast"}'}
    answer = tab.post("/sessions/new/", new_form(**sent))
    assert answer.status_code == 422
    assert re.search(r'id="id_config-one-shot-parameters_error"[^>]*>[^<]*H0: ', answer.text)


# -- files ------------------------------------------------------------------------------------
def test_a_file_is_there_before_the_task_begins(tab: Client, settings: Settings) -> None:
    tab.post("/sessions/new/", new_form(uploads=[table(), SimpleUploadedFile("b.txt", b"b")]))
    made = Session.objects.get()
    assert (work_dir(made, settings) / "table.csv").read_bytes() == b"a,b\n1,2\n"
    assert set(Artifact.objects.values_list("path", flat=True)) == {"table.csv", "b.txt"}
    types = list(made.event_set.order_by("seq").values_list("event_type", flat=True))
    assert types.index("files_updated") < types.index("run_queued")


def test_the_same_form_with_its_file_twice_makes_one_session(
    tab: Client, settings: Settings
) -> None:
    form = new_form()
    first = tab.post("/sessions/new/", form | {"uploads": table()})
    second = tab.post("/sessions/new/", form | {"uploads": table()})
    assert first.headers["Location"] == second.headers["Location"]
    other = tab.post("/sessions/new/", form | {"uploads": table(b"other")})
    assert other.headers["Location"] != first.headers["Location"]
    assert len(list(Path(settings.SESSIONS_DIR).iterdir())) == 2


@pytest.mark.parametrize(
    "wrong", [{"task": " "}, {"config-one-shot-model": "gpt-4o"}, {"uploads": "runs"}]
)
def test_nothing_is_left_of_what_was_refused(
    tab: Client, settings: Settings, wrong: dict[str, str]
) -> None:
    sent = new_form(**{"uploads": table()} | wrong)
    if wrong.get("uploads"):
        sent["uploads"] = SimpleUploadedFile("runs", b"x")
    answer = tab.post("/sessions/new/", sent)
    assert answer.status_code == 422
    assert not Session.objects.exists()
    assert not Run.objects.exists()
    folder = Path(settings.SESSIONS_DIR)
    assert not folder.exists() or not list(folder.iterdir())


def test_a_file_that_is_too_large_is_named(tab: Client, settings: Settings) -> None:
    settings.MAX_UPLOAD_BYTES = 4
    answer = tab.post("/sessions/new/", new_form(uploads=table()))
    assert answer.status_code == 422
    assert 'id="id_uploads_error"' in answer.text
