"""Recipes: Markdown with code that answers a known kind of task without any model."""

from __future__ import annotations

import functools
from pathlib import Path

from cmbagent import workdir
from cmbagent.errors import NoRecipe
from cmbagent.recipes.document import Parameter, Recipe, Value, parse_recipe
from cmbagent.recipes.notation import plain
from cmbagent.recipes.reading import read_parameters

__all__ = [
    "Parameter",
    "Recipe",
    "Value",
    "asked_by",
    "data_files",
    "find",
    "known",
    "named",
    "parse_recipe",
    "read_parameters",
]

MAX_REQUEST = 20_000  # characters; what is longer is a document, not a request for a recipe
_DATA = (".csv", ".tsv")


@functools.cache
def known() -> tuple[Recipe, ...]:
    """Every recipe there is; read when first asked for, so that most engines never do."""
    paths = sorted(Path(__file__).parent.glob("*.md"))
    return tuple(parse_recipe(path.read_text(encoding="utf-8")) for path in paths)


def asked_by(task: str) -> list[Recipe]:
    """The recipes that the text of a task asks for, first the one of which it speaks most; of
    equals, the first by name."""
    if len(task) > MAX_REQUEST:
        return []
    text = plain(task)
    fits = [(recipe.fit(text), recipe) for recipe in known()]
    by_fit = sorted(fits, key=lambda each: -each[0])  # equals stay in the order of their names
    return [recipe for fit, recipe in by_fit if fit]


def find(task: str) -> Recipe | None:
    """The recipe that the text of a task asks for."""
    return next(iter(asked_by(task)), None)


def named(recipe_id: str) -> Recipe:
    """Raises NoRecipe."""
    for recipe in known():
        if recipe.id == recipe_id:
            return recipe
    ids = ", ".join(recipe.id for recipe in known())
    raise NoRecipe(f"There is no recipe {recipe_id!r}.", f"Use one of: {ids}.")


def data_files(work_dir: Path) -> list[str]:
    """The tables of a session that recipes can read, as paths in its work directory."""
    paths = workdir.list_files(work_dir, max_files=workdir.MAX_LISTED).files
    return sorted(path for path in paths if path.lower().endswith(_DATA))
