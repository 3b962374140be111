"""What a session's schema says of a configuration that leaves something out is what the engine
takes: the two may not import each other."""

from __future__ import annotations

from typing import Any, get_args

from cmbagent.agents.bounds import MAX_FAILURES, MAX_ROUNDS, Bounds
from cmbagent.agents.prompt import FOLDER
from cmbagent.models import choosing
from sessions_app import modes
from tests.cmbagent.in_process import Book, run_with


def default(name: str) -> Any:
    return modes.OneShotConfig.model_json_schema()["properties"][name]["default"]


def test_an_empty_configuration_means_to_the_engine_what_the_schema_says() -> None:
    assert default("agent") == choosing.agent_of({}) == choosing.DEFAULT_AGENT
    bounds = Bounds.of(run_with(Book(), config={}))
    assert (default("maxRounds"), default("maxAttempts")) == (bounds.rounds, bounds.max_failures)
    assert (bounds.rounds, bounds.max_failures) == (MAX_ROUNDS, MAX_FAILURES)


def test_words_and_bounds_are_the_same_on_both_sides() -> None:
    assert modes.NO_MODEL == choosing.NO_MODEL
    assert set(get_args(modes.Role)) == set(choosing.ROLES) == {p.stem for p in FOLDER.glob("*.md")}
    model = modes.OneShotConfig.model_json_schema()["properties"]["model"]["anyOf"][0]
    assert model["maxLength"] == choosing.MAX_NAME_CHARACTERS
