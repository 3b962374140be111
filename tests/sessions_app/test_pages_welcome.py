"""The first page: what begins without a model, what is ready, and the question to a model."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from cmbagent.models.choosing import ModelEnvironment
from execution_app import model_trial
from execution_app.models import Run
from sessions_app.models import Server, Session
from sessions_app.services import create_session, register_server
from tests.endpoint import Endpoint

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}
ASK = "/welcome/model/"


@pytest.fixture
def tab(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture(autouse=True)
def _nobody_asked_before() -> None:
    model_trial._recent.clear()


@pytest.fixture
def endpoint(settings: Settings) -> Iterator[Endpoint]:
    endpoint = Endpoint()
    endpoint.start()
    settings.MODEL_ENVIRONMENT = ModelEnvironment(endpoint.environment)
    yield endpoint
    endpoint.stop()


def test_home_shows_the_first_steps_until_there_is_a_session(tab: Client, alice: User) -> None:
    assert tab.get("/").headers["Location"] == "/welcome/"
    create_session(owner=alice, mode="one-shot")
    assert tab.get("/").headers["Location"] == "/sessions/"


def test_one_click_starts_an_example_that_needs_no_model(tab: Client, settings: Settings) -> None:
    text = tab.get("/welcome/").text
    form = dict(re.findall(r'<input type="hidden" name="([\w-]+)" value="([^"]*)"', text))
    answer = tab.post("/sessions/new/", form)
    assert answer.status_code == 303
    assert "CMB" in Run.objects.get().task
    assert Session.objects.get().config == {"model": "no-model"}


# -- what is ready ----------------------------------------------------------------------------
def test_it_says_what_is_missing(tab: Client, settings: Settings, tmp_path: Path) -> None:
    settings.SCIENCE_ENV = tmp_path / "absent"
    text = tab.get("/welcome/_state/").text
    assert "Not yet" in text
    assert "It was never made." in text
    assert "make science" in text
    assert "manage.py run_workers" in text


def test_it_says_what_is_there(tab: Client) -> None:
    server = register_server(kind=Server.Kind.WORKER)
    Server.objects.filter(pk=server.pk).update(sandbox_level=2)
    text = tab.get("/welcome/_state/").text
    assert "level 2, Landlock and seccomp" in text
    assert "no AI is used" in text


def test_a_model_that_cannot_be_used_is_said_with_its_remedy(
    tab: Client, settings: Settings
) -> None:
    settings.MODEL_ENVIRONMENT = ModelEnvironment({"CMBAGENT_MODEL": "gpt-4o"})
    text = tab.get("/welcome/").text
    assert "There is no key for openai" in text
    assert "Set OPENAI_API_KEY" in tab.post(ASK).text


# -- the question -----------------------------------------------------------------------------
def test_without_a_model_nobody_is_asked(tab: Client) -> None:
    answer = tab.post(ASK, headers=HTMX)
    assert answer.status_code == 422
    assert "No model is connected" in answer.text


def test_a_model_answers(tab: Client, endpoint: Endpoint) -> None:
    answer = tab.post(ASK, headers=HTMX)
    assert answer.status_code == 200
    assert f"{endpoint.style.model} answered in " in answer.text
    assert endpoint.key not in answer.text
    assert len(endpoint.requests) == 1
    assert "<html" in tab.post(ASK).text  # without a script it is a page


@pytest.mark.parametrize(
    ("kind", "word"),
    [("unauthorized", "model_unauthorized"), ("cut", "model_unreachable")],
)
def test_a_model_that_does_not_answer_is_said_by_its_type(
    tab: Client, endpoint: Endpoint, kind: str, word: str
) -> None:
    endpoint.misbehave(kind)
    answer = tab.post(ASK, headers=HTMX)
    assert answer.status_code == 422
    assert word in answer.text
    assert endpoint.key not in answer.text


def test_one_that_hangs_is_given_up(
    tab: Client, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_trial, "PATIENCE_SECONDS", 0.2)  # less than the program's start
    assert "model_timeout" in tab.post(ASK, headers=HTMX).text


def test_three_a_minute(
    tab: Client, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, bob: User
) -> None:
    monkeypatch.setattr(model_trial, "_ask", lambda spec: model_trial._failure("x", "y", "z"))
    answers = [tab.post(ASK, headers=HTMX).status_code for _ in range(4)]
    assert answers == [422, 422, 422, 429]
    tab.force_login(bob)  # one person's haste is not another's
    assert tab.post(ASK, headers=HTMX).status_code == 422


def test_two_at_once(tab: Client, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_trial, "_AT_ONCE", threading.BoundedSemaphore(1))
    with model_trial._AT_ONCE:
        answer = tab.post(ASK, headers=HTMX)
    assert answer.status_code == 429
    assert "Others are asking" in answer.text
    assert tab.post(ASK, headers=HTMX).status_code == 200  # its place was given back


def test_asking_is_a_post(tab: Client) -> None:
    assert tab.get(ASK).status_code == 405
