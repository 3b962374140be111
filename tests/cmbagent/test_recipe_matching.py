"""Which tasks ask for which recipe, and what the recipes are."""

# ruff: noqa: RUF001 - people write Greek letters and typographic signs in their tasks

from __future__ import annotations

import collections
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cmbagent import recipes
from cmbagent.blocks import python_blocks
from cmbagent.errors import NoRecipe, ParameterUnknown
from cmbagent.recipes.notation import key

CMB = recipes.named("cmb_power_spectrum")
FILES = ["data.csv", "sn 2.tsv"]
EXAMPLES = Path(__file__).resolve().parents[2] / "sessions_app" / "examples"
IDS = [recipe.id for recipe in recipes.known()]
STORED: list[dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("phrasings.toml").read_text(encoding="utf-8")
)["phrasing"]
FOUND = [each for each in STORED if each.get("recipe") in IDS]
UNREADABLE = [each["task"] for each in STORED if each.get("recipe") == "none can read it"]
NOT_FOUND = [each["task"] for each in STORED if "recipe" not in each]


def named(phrasings: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(each, id=each["task"]) for each in phrasings]


@pytest.mark.parametrize("phrasing", named(FOUND))
def test_the_stored_phrasing_finds_its_recipe_and_is_read(phrasing: dict[str, Any]) -> None:
    task, recipe = phrasing["task"], recipes.find(phrasing["task"])
    assert recipe is recipes.named(phrasing["recipe"])
    files = [name for name in FILES if name in task] or FILES[:1]
    values = recipes.read_parameters(recipe, task, {}, files=files)
    assert beside_defaults(recipe, values) == pytest.approx(
        beside_defaults(recipe, phrasing.get("reads", {}))
    )


def beside_defaults(recipe: recipes.Recipe, values: dict[str, Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = {each.name: each.default for each in recipe.parameters}
    defaults |= {each.name: each.default for each in recipe.choices}
    return {
        name: value
        for name, value in values.items()
        if value is not None and value != defaults.get(name)
    }


@pytest.mark.parametrize("task", NOT_FOUND)
def test_what_no_recipe_does_finds_none(task: str) -> None:
    assert recipes.find(task) is None


@pytest.mark.parametrize("task", UNREADABLE)
def test_a_number_that_is_not_understood_is_refused_with_what_is_read(task: str) -> None:
    recipe = recipes.find(task)
    assert recipe
    with pytest.raises(ParameterUnknown, match=r"It reads .*seed \(0 to"):
        recipes.read_parameters(recipe, task, {})


def test_each_recipe_has_ten_stored_phrasings() -> None:
    counts = collections.Counter(each["recipe"] for each in FOUND)
    assert set(counts) == set(IDS)
    assert min(counts.values()) >= 10
    assert len(NOT_FOUND) >= 10
    assert len(FOUND) + len(UNREADABLE) + len(NOT_FOUND) == len(STORED)  # no misspelled id


@pytest.mark.parametrize(
    "task",
    [
        "Compute the CMB power spectrum",
        "Compute the CMB temperature power spectrum for H0 = 67.4 and plot it.",
        "Plot the TT spectrum",
        "the angular power spectrum of the CMB",
        "Please plot the lensed TT, TE and EE power spectra of the cosmic microwave\nbackground",
        "cmb power spectra with camb",
        "Use CAMB to compute C_l for h = 0.7",
        "D_ℓ of the CMB",
        *CMB.examples,
    ],
)
def test_the_spectra_of_the_cmb_are_found(task: str) -> None:
    assert recipes.find(task) is CMB


@pytest.mark.parametrize(
    "task",
    [
        "",
        "What is the CMB?",
        "Compute the matter power spectrum with CAMB",
        "Compute the power spectrum of this time series",
        "Measure the CMB lensing potential power spectrum",
        "the spectrum of a battery",  # TT is in it
        "CMB power spectrum " + "x" * 30_000,
    ],
)
def test_other_tasks_do_not_ask_for_it(task: str) -> None:
    assert recipes.find(task) is None


def test_the_examples_of_the_mode_need_no_model() -> None:
    tasks = [path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.md"))]
    found = {recipe.id for task in tasks if (recipe := recipes.find(task))}
    assert found == {recipe.id for recipe in recipes.known() if not recipe.inputs}
    assert [task for task in tasks if recipes.find(task) is None and not python_blocks(task)] == []
    for task in tasks:
        if recipe := recipes.find(task):
            assert recipes.read_parameters(recipe, task, {})


# -- which of several ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("task", "recipe"),
    [
        ("Fit a power law to the power spectrum of a Gaussian random field", "random_field"),
        ("Describe the CMB power spectra in cmb.csv, their missing values and correlations", "csv"),
        ("Spectra of the cosmic microwave background, and plot the cosmic age", "cmb"),
        ("The age of the universe at z = 2, lookback time too, for the CMB spectrum", "distances"),
    ],
)
def test_of_several_the_one_that_is_spoken_of_most_is_found(task: str, recipe: str) -> None:
    found = recipes.find(task)
    assert found
    assert recipe in found.id


def test_the_one_that_is_called_by_name_is_found_whatever_else_is_said() -> None:
    task = "Compute the CMB power spectrum of a universe by the recipe oscillator"
    assert recipes.find(task) is recipes.named("oscillator")


def test_the_same_task_finds_the_same_recipe_whatever_its_case() -> None:
    for phrasing in FOUND:
        assert recipes.find(phrasing["task"].lower()) is recipes.named(phrasing["recipe"])


# -- the documents ------------------------------------------------------------------------------
@pytest.mark.parametrize("recipe", recipes.known(), ids=lambda recipe: recipe.id)
def test_examples_find_their_recipe_and_can_be_started_as_they_stand(
    recipe: recipes.Recipe,
) -> None:
    for example in recipe.examples:
        assert recipes.find(example) is recipe
        assert recipes.read_parameters(recipe, example, {}, files=["supernovae.csv"])


@pytest.mark.parametrize("recipe", recipes.known(), ids=lambda recipe: recipe.id)
def test_every_default_is_in_range_and_every_name_is_one_fields_alone(
    recipe: recipes.Recipe,
) -> None:
    meant = collections.defaultdict(set)
    for parameter in recipe.parameters:
        for form in parameter.forms:
            for name in form.names:
                meant[exact(name)].add((parameter.name, form.factor, form.exponential))
    for name in [each.name for each in recipe.choices] + [each.name for each in recipe.inputs]:
        meant[exact(name)].add((name, 1.0, False))
    assert not {name: fields for name, fields in meant.items() if len(fields) > 1}
    for parameter in recipe.parameters:
        if parameter.default is not None:
            assert parameter.minimum <= parameter.default <= parameter.maximum


def exact(name: str) -> str:
    """N and n may be two parameters, as As and a s are not."""
    return name if len(name) == 1 else key(name)


@pytest.mark.parametrize("recipe", recipes.known(), ids=lambda recipe: recipe.id)
def test_choices_and_conditions_name_what_is_there(recipe: recipes.Recipe) -> None:
    options = {choice.name: choice.options for choice in recipe.choices}
    for choice in recipe.choices:
        assert set(choice.default.split(",")) <= set(choice.options)
    for parameter in recipe.parameters:
        if parameter.only:
            assert parameter.only[1] in options[parameter.only[0]]


@pytest.mark.parametrize("recipe", recipes.known(), ids=lambda recipe: recipe.id)
def test_what_was_read_is_read_again_from_a_configuration(recipe: recipes.Recipe) -> None:
    files = ["supernovae.csv"]
    values = recipes.read_parameters(recipe, recipe.examples[0], {}, files=files)
    assert recipes.read_parameters(recipe, "", values, files=files) == values


def test_an_unknown_id_names_the_known_ones() -> None:
    with pytest.raises(NoRecipe) as caught:
        recipes.named("soup")
    assert "cmb_power_spectrum" in caught.value.suggestion


def test_a_document_without_code_is_no_recipe() -> None:
    with pytest.raises(ValueError, match="unpack"):
        recipes.parse_recipe('+++\nid = "x"\n+++\nprose only\n')
