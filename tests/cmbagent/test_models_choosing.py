"""Which model a role gets, from which words, and what is refused with its remedy."""

from __future__ import annotations

import json
import pprint
import subprocess
import sys
from typing import Any

import pytest

from cmbagent.models import choosing
from cmbagent.models.choosing import (
    ModelChoiceInvalid,
    ModelEnvironment,
    choose_models,
    keys_in_the_clear,
    problems,
    unused_keys,
)

KEY = "sk-very-secret-0123456789"
OPENAI = {"OPENAI_API_KEY": KEY, "CMBAGENT_MODEL": "gpt-4o"}
LOCAL = {"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}


@pytest.fixture
def no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_is_installed", lambda module: module == "openai")


def names(environ: dict[str, str], config: dict[str, Any]) -> tuple[str, str, str]:
    models = choose_models(environ, config)
    words = [f"{models[r]['provider']}:{models[r]['name']}" for r in ("default", *choosing.ROLES)]
    return words[0], words[1], words[2]


NONE, GPT, MINI, QWEN = (
    "no-model:no-model",
    "openai:gpt-4o",
    "openai:gpt-4o-mini",
    "openai:qwen3:8b",
)
CLAUDE = "anthropic:claude-sonnet-5-5"


@pytest.mark.parametrize(
    ("environ", "config", "expected"),
    [
        ({}, {}, (NONE, NONE, NONE)),
        ({"OPENAI_API_KEY": KEY}, {}, (NONE, NONE, NONE)),
        ({"OPENAI_API_KEY": KEY}, {"model": "gpt-4o"}, (GPT, GPT, GPT)),
        (OPENAI, {}, (GPT, GPT, GPT)),
        (OPENAI, {"model": None, "models": {}}, (GPT, GPT, GPT)),
        (OPENAI, {"model": "no-model"}, (NONE, NONE, NONE)),
        (OPENAI | {"CMBAGENT_MODEL": "openai:gpt-4o"}, {}, (GPT, GPT, GPT)),
        (OPENAI | {"CMBAGENT_MODEL_RESEARCHER": "gpt-4o-mini"}, {}, (GPT, GPT, MINI)),
        (OPENAI | {"CMBAGENT_MODEL_RESEARCHER": "no-model"}, {}, (GPT, GPT, NONE)),
        (OPENAI, {"models": {"researcher": "gpt-4o-mini"}}, (GPT, GPT, MINI)),
        (
            OPENAI | {"CMBAGENT_MODEL_ENGINEER": "other"},
            {"model": "gpt-4o", "models": {"researcher": "gpt-4o-mini"}},
            (GPT, GPT, MINI),
        ),
        (LOCAL | {"CMBAGENT_MODEL": "qwen3:8b"}, {}, (QWEN, QWEN, QWEN)),
        (
            OPENAI | {"ANTHROPIC_API_KEY": "k"},
            {"models": {"engineer": CLAUDE}},
            (GPT, CLAUDE, GPT),
        ),
    ],
)
def test_who_uses_which(
    environ: dict[str, str], config: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert names(environ, config) == expected


def test_how_it_is_reached() -> None:
    environ = OPENAI | LOCAL | {"CMBAGENT_MODEL_TIMEOUT": "2.5"}
    environ["CMBAGENT_MODEL_PRICES"] = "gpt-4o=2.5/10, anthropic:claude-x=3/15"
    assert choose_models(environ, {})["default"] == {
        "provider": "openai",
        "name": "gpt-4o",
        "base_url": LOCAL["OPENAI_BASE_URL"],
        "api_key": KEY,
        "timeout_s": 2.5,
        "input_price": 2.5,
        "output_price": 10.0,
    }


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://api.openai.com/v1/", " "])
def test_the_providers_own_address_is_no_other(url: str) -> None:
    assert choose_models(OPENAI | {"OPENAI_BASE_URL": url}, {})["default"]["base_url"] is None


def test_the_first_of_two_keys_counts() -> None:
    environ = {"CMBAGENT_MODEL": "google:gemini-3.8-flash", "GOOGLE_API_KEY": "b"}
    assert choose_models(environ, {})["default"]["api_key"] == "b"
    assert choose_models(environ | {"GEMINI_API_KEY": "a"}, {})["default"]["api_key"] == "a"


@pytest.mark.parametrize(
    ("environ", "config", "field", "word"),
    [
        ({"CMBAGENT_MODEL": "gpt-4o"}, {}, "CMBAGENT_MODEL", "OPENAI_API_KEY"),
        ({"CMBAGENT_MODEL": CLAUDE}, {}, "CMBAGENT_MODEL", "ANTHROPIC_API_KEY"),
        ({}, {"model": "google:gemini-x"}, "config.model", "GEMINI_API_KEY or GOOGLE_API_KEY"),
        ({}, {"models": {"researcher": "gpt-4o"}}, "config.models.researcher", "OPENAI_API_KEY"),
        ({}, {"models": {"cook": "gpt-4o"}}, "config.models.cook", "engineer, researcher"),
        (OPENAI | {"CMBAGENT_MODEL": "antropic:x"}, {}, "CMBAGENT_MODEL", "anthropic"),
        (OPENAI, {"model": "anthropic:"}, "config.model", "gpt-4o"),
        (OPENAI, {"model": "gpt 4o"}, "config.model", "gpt-4o"),
        (OPENAI, {"model": "x" * 201}, "config.model", "gpt-4o"),
        (OPENAI | {"CMBAGENT_MODEL_ENGNEER": "x"}, {}, "CMBAGENT_MODEL_ENGNEER", "_ENGINEER"),
        (OPENAI | {"CMBAGENT_MODEL_TIMEOUT": "soon"}, {}, "CMBAGENT_MODEL_TIMEOUT", "seconds"),
        (OPENAI | {"CMBAGENT_MODEL_TIMEOUT": "0"}, {}, "CMBAGENT_MODEL_TIMEOUT", "seconds"),
        (OPENAI | {"CMBAGENT_MODEL_TIMEOUT": "nan"}, {}, "CMBAGENT_MODEL_TIMEOUT", "seconds"),
        (OPENAI | {"CMBAGENT_MODEL_PRICES": "gpt-4o=1"}, {}, "CMBAGENT_MODEL_PRICES", "2.50/10"),
        (OPENAI | {"CMBAGENT_MODEL_PRICES": "=1/2"}, {}, "CMBAGENT_MODEL_PRICES", "2.50/10"),
        (OPENAI | {"CMBAGENT_MODEL_PRICES": "a=-1/2"}, {}, "CMBAGENT_MODEL_PRICES", "2.50/10"),
        (OPENAI | {"CMBAGENT_MODEL_PRICES": "a=inf/2"}, {}, "CMBAGENT_MODEL_PRICES", "2.50/10"),
        (OPENAI | {"OPENAI_BASE_URL": "localhost:1"}, {}, "OPENAI_BASE_URL", "http://127"),
        (OPENAI | {"OPENAI_BASE_URL": "http://[::1"}, {}, "OPENAI_BASE_URL", "http://127"),
        (OPENAI | {"OPENAI_BASE_URL": "http://h:99999"}, {}, "OPENAI_BASE_URL", "http://127"),
        (OPENAI | {"OPENAI_BASE_URL": "http://me:pw@h/v1"}, {}, "OPENAI_BASE_URL", "password"),
        (OPENAI | {"OPENAI_BASE_URL": "http://h/v1?key=x"}, {}, "OPENAI_BASE_URL", "password"),
    ],
)
def test_what_is_refused_names_field_and_remedy(
    environ: dict[str, str], config: dict[str, Any], field: str, word: str
) -> None:
    with pytest.raises(ModelChoiceInvalid) as refused:
        choose_models(environ, config)
    assert refused.value.field == field
    assert word in refused.value.remedy
    assert str(refused.value) == f"{refused.value.problem} {refused.value.remedy}"
    assert [p.field for p in problems(environ)] == ([] if config else [field])


@pytest.mark.usefixtures("no_extras")
def test_a_library_that_is_not_installed() -> None:
    environ = OPENAI | {"ANTHROPIC_API_KEY": "k"}
    with pytest.raises(ModelChoiceInvalid, match="make models") as refused:
        choose_models(environ, {"model": CLAUDE})
    assert refused.value.field == "config.model"
    assert names(environ, {})[0] == GPT


@pytest.mark.parametrize("module", ["openai", "anthropic", "google.genai", "mistralai"])
def test_what_is_installed_is_found(module: str) -> None:
    assert choosing._is_installed(module)
    assert not choosing._is_installed(f"{module}x.{module}")


def test_all_problems_are_told_at_once() -> None:
    environ = {"CMBAGENT_MODEL_TIMEOUT": "x", "CMBAGENT_MODEL_PRICES": "x", "MISTRAL_BASE_URL": "x"}
    assert {p.field for p in problems(environ)} == set(environ)
    two = {"CMBAGENT_MODEL": "gpt-4o", "CMBAGENT_MODEL_ENGINEER": CLAUDE}
    assert {p.field for p in problems(two)} == set(two)
    assert problems(OPENAI) == problems({}) == []


def test_a_key_alone_is_not_used_and_told() -> None:
    assert unused_keys({"OPENAI_API_KEY": KEY} | LOCAL) == ["OPENAI_API_KEY", "OPENAI_BASE_URL"]
    assert unused_keys(OPENAI) == unused_keys({}) == []
    assert unused_keys({"OPENAI_API_KEY": KEY, "CMBAGENT_MODEL": "no-model"}) == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://lab.example:8000/v1", True),
        ("http://192.0.2.7/v1", True),
        ("https://lab.example/v1", False),
        ("http://127.0.0.1:8000/v1", False),
        ("http://localhost:8000/v1", False),
        ("http://[::1]:8000/v1", False),
    ],
)
def test_a_key_over_plain_http(url: str, *, told: bool) -> None:
    environ = OPENAI | {"OPENAI_BASE_URL": url}
    assert keys_in_the_clear(environ) == ["OPENAI_BASE_URL"] * told
    assert keys_in_the_clear({"OPENAI_BASE_URL": url}) == []


# -- what is not shown ------------------------------------------------------------------------
def test_keys_do_not_show_themselves() -> None:
    environ = ModelEnvironment(OPENAI | {"DJANGO_SECRET_KEY": "other", "HOME": "/home"})
    spec = choose_models(environ, {})["default"]
    for shown in (repr(environ), pprint.pformat(environ), repr(spec), pprint.pformat([spec])):
        assert KEY not in shown
    assert "gpt-4o" in repr(environ)
    assert set(environ) == set(OPENAI)


def test_a_key_travels_whole() -> None:
    spec = choose_models(OPENAI, {})["default"]
    assert json.loads(json.dumps(spec))["api_key"] == KEY
    assert f"Bearer {spec['api_key']}" == f"Bearer {KEY}"


def test_choosing_loads_no_library() -> None:
    program = (
        "import sys, cmbagent.models.choosing as c; c.choose_models("
        "{'CMBAGENT_MODEL': 'anthropic:x', 'ANTHROPIC_API_KEY': 'k'}, {});"
        "sys.exit(bool({'pydantic', 'pydantic_ai', 'openai', 'anthropic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
