"""--config of `python -m cmbagent`: what the server refuses is refused, with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cmbagent import workflows
from cmbagent.terminal.config import FIELDS, ConfigInvalid, check_config
from sessions_app.modes import MODES
from tests.cmbagent.command_line import cmbagent

WORDS_FOR_PEOPLE = {"title", "description", "default"}


def bare(schema: Any) -> Any:
    """Without what is said to people."""
    if not isinstance(schema, dict):
        return [bare(item) for item in schema] if isinstance(schema, list) else schema
    return {key: bare(item) for key, item in schema.items() if key not in WORDS_FOR_PEOPLE}


def test_the_terminal_accepts_what_the_server_accepts() -> None:
    assert FIELDS.keys() == workflows.WORKFLOWS.keys() == MODES.keys()
    for mode, fields in FIELDS.items():
        schema = MODES[mode].config_schema
        assert schema["additionalProperties"] is False
        assert {name: bare(field) for name, field in schema["properties"].items()} == fields


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"maxRound": 5}, "There is no config.maxRound. one-shot has agent, model"),
        ({"maxRounds": "5"}, 'config.maxRounds cannot be "5". It is a whole number from 1 to 100.'),
        ({"maxRounds": True}, "a whole number from 1 to 100"),
        ({"maxRounds": 0}, "a whole number from 1 to 100"),
        ({"maxAttempts": 21}, "a whole number from 1 to 20"),
        ({"maxAttempts": 2.5}, "a whole number from 1 to 20"),
        ({"agent": "cook"}, 'config.agent cannot be "cook". It is "engineer" or "researcher".'),
        ({"agent": ["engineer"]}, '"engineer" or "researcher"'),
        ({"model": "gpt 4"}, "a text without spaces of at most 200 characters or null"),
        ({"model": ""}, "a text without spaces"),
        ({"model": "gpt-4o\n"}, "a text without spaces"),
        ({"models": {"cook": "gpt-4o"}}, "There is no config.models.cook. config.models has eng"),
        ({"models": {"engineer": None}}, "config.models.engineer cannot be null"),
        ({"instructions": "x" * 8001}, "a text of at most 8000 characters"),
        ({"parameters": {"H0": "70"}}, 'config.parameters.H0 cannot be "70". It is a number.'),
        ({"parameters": {"H0": 10**400}}, "It is a number."),
        ({"parameters": [70]}, "an object, each of whose values is a number"),
        ({"options": {"spectra": 3}}, "a text of at most 200 characters"),
        ({"parameters": {f"p{n}": 1 for n in range(101)}}, "values is a number; at most 100."),
        ({"options": {"o" * 101: ""}}, 'A name in config.options has at most 100 characters: "oo'),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        check_config("one-shot", config)
    assert said in str(refused.value)


def test_what_can_be_is_accepted() -> None:
    whole = {
        "agent": "researcher",
        "model": None,
        "models": {"engineer": "anthropic:claude"},
        "maxRounds": 100,
        "maxAttempts": 1,
        "instructions": "Two\nlines.",
        "parameters": {"H0": 70, "ns": 0.96},
        "options": {"spectra": ""},
    }
    assert whole.keys() == FIELDS["one-shot"].keys()
    check_config("one-shot", whole)


@pytest.mark.parametrize("config", ['{"maxRound": 5}', '{"parameters": {"H0": NaN}}', "[" * 50_000])
def test_the_command_refuses_it_before_anything_runs(folder: Path, config: str) -> None:
    refused = cmbagent(folder, "x", "--work-dir", "w", "--config", config)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1, "a sentence, no traceback"
