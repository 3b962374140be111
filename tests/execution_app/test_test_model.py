"""The operator's question whether a model answers."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from cmbagent.models.choosing import ModelEnvironment
from tests.endpoint import Endpoint


@pytest.fixture
def endpoint(settings: Settings) -> Iterator[Endpoint]:
    endpoint = Endpoint()
    endpoint.start()
    settings.MODEL_ENVIRONMENT = ModelEnvironment(endpoint.environment)
    yield endpoint
    endpoint.stop()


def asked(*arguments: str) -> str:
    output = io.StringIO()
    call_command("test_model", *arguments, stdout=output)
    return output.getvalue()


def test_it_answers(endpoint: Endpoint, settings: Settings) -> None:
    assert asked("researcher").startswith(f"{endpoint.style.model} answers the researcher in ")
    settings.MODEL_ENVIRONMENT = ModelEnvironment(
        {**endpoint.environment, "CMBAGENT_MODEL_PRICES": f"{endpoint.style.model}=1/1"}
    )
    assert "USD." in asked()


def test_nobody_knows_the_price_of_a_server_of_ones_own(endpoint: Endpoint) -> None:
    assert asked().endswith("nobody knows what that costs.\n")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("unauthorized", "model_unauthorized: "),
        ("rate_limited", "model_rate_limited: "),
        ("cut", "model_unreachable: "),
        ("wrong_shape", "model_answer_invalid: "),
    ],
)
def test_it_does_not(endpoint: Endpoint, kind: str, word: str) -> None:
    endpoint.misbehave(kind)
    with pytest.raises(CommandError) as refused:
        asked()
    assert str(refused.value).startswith(word)
    assert endpoint.key not in str(refused.value)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "Set CMBAGENT_MODEL"),
        ({"CMBAGENT_MODEL": "gpt-4o"}, "Set OPENAI_API_KEY"),
    ],
)
def test_there_is_none(settings: Settings, environ: dict[str, str], words: str) -> None:
    settings.MODEL_ENVIRONMENT = ModelEnvironment(environ)
    with pytest.raises(CommandError, match=words):
        asked()
