"""Which tasks ask for the recipe, and what the recipe is."""

# ruff: noqa: RUF001 - people write Greek letters and typographic signs in their tasks

from __future__ import annotations

import pytest

from cmbagent import recipes

RECIPE = recipes.named("cmb_power_spectrum")


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
        *RECIPE.examples,
    ],
)
def test_the_recipe_is_found(task: str) -> None:
    assert recipes.find(task) is RECIPE


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


def test_its_examples_can_be_started_as_they_stand() -> None:
    for example in RECIPE.examples:
        assert recipes.read_parameters(RECIPE, example, {})


def test_every_default_is_in_range_and_every_name_is_one_parameters_alone() -> None:
    names = [name for p in RECIPE.parameters for form in p.forms for name in form.names]
    assert len(names) == len(set(names))
    defaults = [(p.minimum, p.default, p.maximum) for p in RECIPE.parameters]
    assert not [low for low, value, high in defaults if not low <= (value or 0.0) <= high]


def test_a_document_without_code_is_no_recipe() -> None:
    with pytest.raises(ValueError, match="unpack"):
        recipes.parse_recipe('+++\nid = "x"\n+++\nprose only\n')
