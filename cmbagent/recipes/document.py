"""A recipe as it is written: TOML between two lines of +++, prose, one fenced Python block."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cmbagent.blocks import python_blocks
from cmbagent.recipes.notation import plain

MAX_REQUEST = 20_000  # characters; what is longer is a document, not a request for a recipe


@dataclass(frozen=True)
class Form:
    """A way to give a parameter: value = factor * number, or factor * exp(number)."""

    names: tuple[str, ...]
    factor: float = 1.0
    exponential: bool = False


@dataclass(frozen=True)
class Parameter:
    """A number that the recipe's code reads. `units` are the accepted spellings of its unit and
    what a number in them is multiplied by; `words` are phrases that mean a value ("flat")."""

    name: str
    description: str
    unit: str
    default: float
    minimum: float
    maximum: float
    integer: bool
    forms: tuple[Form, ...]
    units: dict[str, float]
    words: dict[str, float]

    @property
    def range(self) -> str:
        """For people: "40 to 100 km/s/Mpc"."""
        kind = ", a whole number" if self.integer else f" {self.unit}".rstrip()
        return f"{self.minimum:g} to {self.maximum:g}{kind}"


@dataclass(frozen=True)
class Recipe:
    """`about`, `wants`, `not_about`: a task asks for it when it has a word of the first two and
    none of the third. `understood` are phrases that say what the defaults say already;
    `not_offered` and `hints` map what it cannot do, and names it does not read, to an advice."""

    id: str
    title: str
    prose: str
    code: str
    examples: tuple[str, ...]
    about: tuple[str, ...]
    wants: tuple[str, ...]
    not_about: tuple[str, ...]
    understood: tuple[str, ...]
    not_offered: dict[str, str]
    hints: dict[str, str]
    parameters: tuple[Parameter, ...]

    def is_asked_by(self, task: str) -> bool:
        text = plain(task[: MAX_REQUEST + 1])
        return (
            len(task) <= MAX_REQUEST
            and _names_one(self.about, text)
            and _names_one(self.wants, text)
            and not _names_one(self.not_about, text)
        )


def parse_recipe(text: str) -> Recipe:
    """Raises ValueError or KeyError for a document that is not a recipe."""
    _, front, body = text.split("+++\n", 2)
    fields = tomllib.loads(front)
    (code,) = python_blocks(body)
    lists = ("examples", "about", "wants", "not_about", "understood")
    return Recipe(
        id=fields["id"],
        title=fields["title"],
        prose=body.partition("```")[0].strip(),
        code=code,
        not_offered=fields.get("not_offered", {}),
        hints=fields.get("hints", {}),
        parameters=tuple(_parameter(each) for each in fields["parameters"]),
        **{name: tuple(fields[name]) for name in lists},
    )


def _parameter(fields: dict[str, Any]) -> Parameter:
    plainly = Form((fields["name"], *fields["aliases"]))
    other = (
        Form(tuple(form["aliases"]), form.get("factor", 1.0), form.get("exponential", False))
        for form in fields.get("forms", [])
    )
    return Parameter(
        name=fields["name"],
        description=fields["description"],
        unit=fields["unit"],
        default=fields["default"],
        minimum=fields["minimum"],
        maximum=fields["maximum"],
        integer=fields.get("integer", False),
        forms=(plainly, *other),
        units=fields.get("units", {}),
        words=fields.get("words", {}),
    )


def _names_one(words: Iterable[str], text: str) -> bool:
    patterns = (r"\s+".join(map(re.escape, word.split())) for word in words)
    return any(re.search(rf"(?<![^\W_]){p}(?![^\W_])", text, re.IGNORECASE) for p in patterns)
