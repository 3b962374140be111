"""A run's models are checked when it is asked for, and named when it is claimed."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from cmbagent.models.choosing import ModelEnvironment
from execution_app.model_choice import model_name_for, models_for, name_of_model
from execution_app.models import Run
from execution_app.services import claim_run, start_run
from sessions_app.errors import ConfigInvalid
from sessions_app.models import Event
from sessions_app.modes import MODES, OneShotConfig
from tests.api_client import ApiClient
from tests.conftest import As, MakeSession

KEY = "sk-of-tests-0123456789abcdef"
CONNECTED = {"OPENAI_API_KEY": KEY, "CMBAGENT_MODEL": "gpt-4o"}


@pytest.fixture
def connected(settings: Settings) -> None:
    settings.MODEL_ENVIRONMENT = ModelEnvironment(CONNECTED)


def answer_of(client: ApiClient, session: str, config: object) -> tuple[int, dict[str, str]]:
    body = {"task": "print(1)", "config": config}
    response = client.post(f"/api/sessions/{session}/runs", body)
    return response.status_code, response.json().get("fields", {})


@pytest.mark.parametrize(
    ("config", "field", "word"),
    [
        ({"model": "anthropic:claude-x"}, "config.model", "ANTHROPIC_API_KEY"),
        ({"models": {"researcher": "nobody:x"}}, "config.models.researcher", "nobody"),
        ({"models": {"cook": "gpt-4o"}}, "config.models.cook", "engineer"),
        ({"model": "a name"}, "config.model", "pattern"),
        ({"maxRounds": 0}, "config.maxRounds", "1"),
        ({"maxRounds": 101}, "config.maxRounds", "100"),
        ({"maxAttempts": 21}, "config.maxAttempts", "20"),
        ({"agent": "cook"}, "config.agent", "researcher"),
    ],
)
@pytest.mark.usefixtures("connected")
def test_what_cannot_be_carried_out_is_refused_by_its_field(
    api: As, alice: User, make_session: MakeSession, config: object, field: str, word: str
) -> None:
    session = make_session(alice)
    status, fields = answer_of(api(alice), str(session.pk), config)
    assert status == 422
    assert list(fields) == [field]
    assert word in fields[field]
    assert not Run.objects.exists()


@pytest.mark.usefixtures("connected")
def test_the_sessions_own_configuration_counts_too(alice: User, make_session: MakeSession) -> None:
    session = make_session(alice)
    session.config = {"model": "mistral:x"}
    with pytest.raises(ConfigInvalid, match="MISTRAL_API_KEY"):
        start_run(session=session, task="x", by=alice)
    start_run(session=session, task="x", config={"model": "no-model"}, by=alice)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, "gpt-4o"),
        ({"model": "no-model"}, "no-model"),
        ({"models": {"engineer": "o9"}}, "o9"),
        ({"models": {"engineer": "o9"}, "agent": "researcher"}, "gpt-4o"),
        ({"model": "google:x"}, "not connected"),
    ],
)
@pytest.mark.usefixtures("connected")
def test_what_people_are_told(config: dict[str, object], name: str) -> None:
    assert name_of_model(config) == name


def test_without_a_model_nothing_else_is_told() -> None:
    assert model_name_for({}) == "no-model"


@pytest.mark.usefixtures("connected")
def test_the_claim_says_which_model(alice: User, make_session: MakeSession) -> None:
    run = start_run(session=make_session(alice), task="x", by=alice)
    claim_run(owner="w", sandbox_level=1, name_model=name_of_model)
    assert Event.objects.get(run_id=run.pk, event_type="run_started").data["model"] == "gpt-4o"


@pytest.mark.usefixtures("connected")
def test_no_key_is_kept_anywhere(alice: User, make_session: MakeSession) -> None:
    run = start_run(session=make_session(alice), task="x", by=alice)
    claim_run(owner="w", sandbox_level=1, name_model=name_of_model)
    run.refresh_from_db()
    told = [event.data for event in Event.objects.all()]
    assert KEY not in f"{told}{run.__dict__}"
    assert models_for(run.config)["default"]["api_key"] == KEY


def test_the_mode_says_what_is_connected(api: As, alice: User, settings: Settings) -> None:
    def told() -> str:
        body = api(alice).get("/api/sessions/modes/list").json()
        return str(body["modes"][0]["description"])

    assert "No AI model is connected" in told()
    settings.MODEL_ENVIRONMENT = ModelEnvironment(CONNECTED)
    assert "gpt-4o" in told()
    assert "No AI" not in told()


def test_the_schema_knows_all_roles() -> None:
    from_schema = OneShotConfig.model_json_schema()["properties"]["agent"]["enum"]
    with pytest.raises(ConfigInvalid, match=", ".join(from_schema)):
        models_for({"models": {"cook": "x"}})
    assert MODES["one-shot"].config is OneShotConfig
