"""A recipe as it is written: TOML between two lines of +++, prose, one fenced Python block."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cmbagent.blocks import python_blocks
from cmbagent.recipes.notation import plain

PARAMETERS_VARIABLE = "CMBAGENT_PARAMETERS"  # JSON for the code; see cmbagent.execution

Value = float | str | None  # None: a number that was not given and that has no default


@dataclass(frozen=True)
class Form:
    """A way to give a parameter: value = factor * number, or factor * exp(number)."""

    names: tuple[str, ...]
    factor: float = 1.0
    exponential: bool = False


@dataclass(frozen=True)
class Parameter:
    """A number that the recipe's code reads. `units` are the accepted spellings of its unit and
    what a number in them is multiplied by; `words` are phrases that mean a value ("flat"). One
    without a default follows from others, as the description says, unless it is given. `only` is
    a choice and the option without which the parameter has no meaning."""

    name: str
    description: str
    unit: str
    default: float | None
    minimum: float
    maximum: float
    integer: bool
    forms: tuple[Form, ...]
    units: dict[str, float]
    words: dict[str, float]
    only: tuple[str, str] | None

    @property
    def may_be_absent(self) -> bool:
        return self.default is None or self.only is not None

    def has_meaning(self, chosen: Mapping[str, Value]) -> bool:
        return self.only is None or chosen[self.only[0]] == self.only[1]

    @property
    def range(self) -> str:
        """For people: "40 to 100 km/s/Mpc"."""
        kind = ", a whole number" if self.integer else f" {self.unit}".rstrip()
        return f"{self.minimum:g} to {self.maximum:g}{kind}"


@dataclass(frozen=True)
class Choice:
    """One of several options, or, with `several`, any number of them: a text with commas between
    them. `options` maps each option to the phrases that mean it."""

    name: str
    description: str
    default: str
    several: bool
    names: tuple[str, ...]
    options: dict[str, tuple[str, ...]]

    @property
    def range(self) -> str:
        """For people: "one of linear, power"."""
        return f"{'any' if self.several else 'one'} of {', '.join(self.options)}"


@dataclass(frozen=True)
class InputFile:
    """A file of the session that the code reads: the one that is named, or the only one."""

    name: str
    description: str
    endings: tuple[str, ...]

    @property
    def range(self) -> str:
        return f"a file {' or '.join(self.endings)} of the session"


@dataclass(frozen=True)
class Recipe:
    """`about`, `wants`, `not_about`: a task asks for it when it has a word of the first two and
    none of the third. `understood` are phrases that say what the defaults say already;
    `not_offered` and `hints` map what it cannot do, and names it does not read, to an advice.
    `makes` are the files that its code leaves."""

    id: str
    title: str
    prose: str
    code: str
    examples: tuple[str, ...]
    makes: tuple[str, ...]
    about: tuple[str, ...]
    wants: tuple[str, ...]
    not_about: tuple[str, ...]
    understood: tuple[str, ...]
    not_offered: dict[str, str]
    hints: dict[str, str]
    parameters: tuple[Parameter, ...]
    choices: tuple[Choice, ...]
    inputs: tuple[InputFile, ...]

    @property
    def fields(self) -> tuple[Parameter | Choice | InputFile, ...]:
        """All that it reads out of a task."""
        return (*self.parameters, *self.choices, *self.inputs)

    def fit(self, text: str) -> int:
        """How much of a plain text speaks of this recipe, in characters of different phrases; 0
        when it does not ask for it. A recipe that is called by its name is asked for."""
        if _called(self, text):
            return len(text) + 1
        about, wants = _found(self.about, text), _found(self.wants, text)
        if not (about and wants) or _found(self.not_about, text):
            return 0
        phrases = {phrase.lower() for phrase in about + wants}
        return sum(
            len(phrase)
            for phrase in phrases
            if not any(phrase != other and phrase in other for other in phrases)
        )

    def script(self, values: Mapping[str, Value]) -> str:
        """The code as it is run and kept. What it reads from its environment when a run starts it
        stands in its first lines too, so that the kept file gives the same result by hand."""
        parameters = json.dumps(dict(values))
        return (
            "import os\n\n"
            "# the values of the run; set the variable for others\n"
            f"os.environ.setdefault({PARAMETERS_VARIABLE!r}, {parameters!r})\n\n{self.code}"
        )

    def shown(self, values: Mapping[str, Value]) -> str:
        """For people: "H0 = 67.36 km/s/Mpc, spectra = TT,EE"; without what was not given."""
        units = {parameter.name: parameter.unit for parameter in self.parameters}
        named = ((field.name, values[field.name]) for field in self.fields)
        return ", ".join(
            f"{name} = {value if isinstance(value, str) else f'{value:.6g}'} {units.get(name, '')}".rstrip()
            for name, value in named
            if value is not None
        )


def parse_recipe(text: str) -> Recipe:
    """Raises ValueError or KeyError for a document that is not a recipe."""
    _, front, body = text.split("+++\n", 2)
    fields = tomllib.loads(front)
    (code,) = python_blocks(body)
    lists = ("examples", "makes", "about", "wants", "not_about", "understood")
    return Recipe(
        id=fields["id"],
        title=fields["title"],
        prose=body.partition("```")[0].strip(),
        code=code,
        not_offered=fields.get("not_offered", {}),
        hints=fields.get("hints", {}),
        parameters=tuple(_parameter(each) for each in fields.get("parameters", [])),
        choices=tuple(_choice(each) for each in fields.get("choices", [])),
        inputs=tuple(_input(each) for each in fields.get("inputs", [])),
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
        default=fields.get("default"),
        minimum=fields["minimum"],
        maximum=fields["maximum"],
        integer=fields.get("integer", False),
        forms=(plainly, *other),
        units=fields.get("units", {}),
        words=fields.get("words", {}),
        only=next(iter(fields.get("only", {}).items()), None),
    )


def _choice(fields: dict[str, Any]) -> Choice:
    return Choice(
        name=fields["name"],
        description=fields["description"],
        default=fields["default"],
        several=fields.get("several", False),
        names=(fields["name"], *fields["aliases"]),
        options={name: (name, *phrases) for name, phrases in fields["options"].items()},
    )


def _input(fields: dict[str, Any]) -> InputFile:
    return InputFile(fields["name"], fields["description"], tuple(fields["endings"]))


def _called(recipe: Recipe, text: str) -> bool:
    names = "|".join(_pattern(plain(name)) for name in (recipe.id, recipe.title))
    return bool(re.search(rf"\brecipe\s*:?\s*(?:{names})(?![^\W_])", text, re.IGNORECASE))


def _found(phrases: Iterable[str], text: str) -> list[str]:
    return [
        phrase
        for phrase in phrases
        if re.search(rf"(?<![^\W_]){_pattern(phrase)}(?![^\W_])", text, re.IGNORECASE)
    ]


def _pattern(phrase: str) -> str:
    return r"\s+".join(map(re.escape, phrase.split()))
