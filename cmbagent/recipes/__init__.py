"""Recipes: Markdown with code that answers a known kind of task without any model."""

from __future__ import annotations

import functools
from pathlib import Path

from cmbagent.recipes.document import Parameter, Recipe, parse_recipe
from cmbagent.recipes.reading import read_parameters

__all__ = ["Parameter", "Recipe", "find", "known", "parse_recipe", "read_parameters"]


@functools.cache
def known() -> tuple[Recipe, ...]:
    """Every recipe there is; read when first asked for, so that most engines never do."""
    paths = sorted(Path(__file__).parent.glob("*.md"))
    return tuple(parse_recipe(path.read_text(encoding="utf-8")) for path in paths)


def find(task: str) -> Recipe | None:
    """The first recipe that the text of a task asks for."""
    return next((recipe for recipe in known() if recipe.is_asked_by(task)), None)
