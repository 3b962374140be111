"""Reads a recipe's parameters out of what a person wrote. What is not understood is an error.

Every number and every "=" of the text must have been understood in the end: a value that was
meant for something, and silently dropped, would make a wrong result look right.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmbagent.errors import ParameterConflict, ParameterOutOfRange, ParameterUnknown
from cmbagent.recipes.choosing import (
    agreed_choice,
    chosen_file,
    configured_choice,
    read_choice,
    read_file_name,
)
from cmbagent.recipes.document import Choice, Form, Parameter, Recipe, Value
from cmbagent.recipes.notation import NUMBER, key, name_pattern, number_of
from cmbagent.recipes.text import TAKEN, Text, is_other_word, not_understood

_EQUALS = r"\s*(?::=|==|=|:)\s*"
_VERBS = r"is|are|was|be|equals?|equal|set|fixed|held|kept|of"
_FILLERS = r"to|at|value|a|the|about|around|approximately|roughly|with"
_CONNECTOR = re.compile(
    rf"(?:\s*[)\]])?(?:(?P<equals>{_EQUALS})|\s+(?P<words>(?:(?:{_VERBS}|{_FILLERS})\s+)*)|)",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"(?:a|an|the|this|that|our|your|each|both)\b", re.IGNORECASE)
_SPELLED_OUT = re.compile(
    r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|"
    r"thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|point)\b",
    re.IGNORECASE,
)
_EXPRESSION = re.compile(r",\d|\.\d|\s*[*/^]\s*[\w(]|\s*%|\s*\+?\s*±")
_UNIT_LIKE = re.compile(
    r"(?:in\s+)?[\[(]?\s*(?P<unit>[A-Za-z]+(?:\s*[/^]\s*\S+|\s+per\s+\S+)+|per\s*\S+|"
    r"(?:[kM]?pc|[kcm]?m|[kMGTm]?eV|[mun]?K|k?g|m?s|[kMGT]?Hz|G?yr)\b|"
    r"(?:(?:kilo|mega|giga|centi|milli|micro|nano|light)?"
    r"(?:met(?:er|re)|parsec|second|sec|electron-?volt|volt|kelvin|gram|hertz|year|yr)|"
    r"degree|deg|arcmin|arcsec|arcminute|rad|radian|mile|foot|feet|inch|yard|furlong|percent|"
    r"minute|hour|day)s?\b)"
)
_LIST_NUMBER = re.compile(r"^[ \t]*\(?\d{1,2}[.)][ \t]", re.MULTILINE)
_LEFT_OVER = re.compile(r"={1,2}|(?<![A-Za-z0-9_.^])[+-]?\s?\.?\d[\w.]*|(?<=[A-Za-z_])\d+\.\d+")
_NAME_BEFORE = re.compile(  # a word, then what may stand between it and its value
    r"[^\s,;!?=<>:]+(?:\s+(?:of|is|to|at|from|by|between|and|or|set|equal|than))*\s*[=<>:]*\s*$"
)


@dataclass(frozen=True)
class _Given:
    """A value that was given, in the parameter's own unit, and the words that gave it."""

    parameter: Parameter
    value: float
    quote: str


def read_parameters(
    recipe: Recipe, task: str, configured: Mapping[str, Any], *, files: Sequence[str] = ()
) -> dict[str, Value]:
    """All that the recipe's code reads, by name, from the text, the run's configuration, the
    defaults. `files` are the paths that the session's work directory has.

    Raises ParameterUnknown, ParameterOutOfRange, ParameterConflict, InputMissing; each names what
    it is about.
    """
    text = Text(recipe, task)
    of_numbers, others = _sorted_out(recipe, configured)
    named_files = {each.name: read_file_name(text, each, files) for each in recipe.inputs}
    reader = _Reader(text)
    reader.prepare()
    told = {each.name: read_choice(text, each) for each in recipe.choices}
    given = [*reader.read(), *_configured(recipe, of_numbers)]
    chosen = {
        choice.name: agreed_choice(
            choice, told[choice.name], configured_choice(recipe, choice, others.get(choice.name))
        )
        or _implied(choice, given)
        or choice.default
        for choice in recipe.choices
    }
    paths = {
        each.name: chosen_file(recipe, each, named_files[each.name], others.get(each.name), files)
        for each in recipe.inputs
    }
    return {**_numbers(recipe, given, chosen), **chosen, **paths}


def _implied(choice: Choice, all_given: list[_Given]) -> str | None:
    """The option that has to be meant, because a parameter without it has no meaning."""
    only = {given.parameter.only for given in all_given}
    options = [option for option in choice.options if (choice.name, option) in only]
    return options[0] if len(options) == 1 else None


def _sorted_out(
    recipe: Recipe, configured: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of the numbers, as it was written, and of the rest, by name."""
    named = {key(name): each.name for each in recipe.choices for name in each.names}
    named |= {key(each.name): each.name for each in recipe.inputs}
    numbers = {name: value for name, value in configured.items() if key(name) not in named}
    others = {named[key(name)]: value for name, value in configured.items() if key(name) in named}
    return numbers, others


def _numbers(
    recipe: Recipe, all_given: list[_Given], choices: Mapping[str, Value]
) -> dict[str, Value]:
    values: dict[str, Value] = {
        parameter.name: parameter.default if parameter.has_meaning(choices) else None
        for parameter in recipe.parameters
    }
    first: dict[str, _Given] = {}
    for given in all_given:
        parameter, value = given.parameter, given.value
        if not parameter.has_meaning(choices):
            raise _without_meaning(given, recipe)
        _check_range(given)
        _check_agreement(first.setdefault(parameter.name, given), given)
        values[parameter.name] = int(value) if parameter.integer else value
    return values


# -- the text -----------------------------------------------------------------------------------
class _Reader:
    """Takes the numbers out of a text, longest names first."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._recipe = text.recipe

    def prepare(self) -> None:
        """Takes what needs no reading. Raises ParameterUnknown for what is not offered."""
        self._refuse_what_is_not_offered()
        for phrase in sorted(self._recipe.understood, key=len, reverse=True):
            self._text.take_all(name_pattern(phrase))
        self._text.take_all(_LIST_NUMBER)

    def read(self) -> list[_Given]:
        given = [*self._words(), *self._named()]
        self._refuse_what_is_left()
        return given

    def _refuse_what_is_not_offered(self) -> None:
        for words, advice in self._recipe.not_offered.items():
            if name_pattern(words).search(self._text.whole):
                raise self._text.not_understood(words, advice)

    def _words(self) -> Iterator[_Given]:
        for parameter in self._recipe.parameters:
            advice = f"Give {parameter.name} = a number."
            for word, value in parameter.words.items():
                for quote in self._text.taken_phrases(word, advice=advice):
                    yield _Given(parameter, value, quote)

    def _named(self) -> Iterator[_Given]:
        named = [
            (name, parameter, form)
            for parameter in self._recipe.parameters
            for form in parameter.forms
            for name in form.names
        ]
        names = {name for name, _, _ in named}
        for name, parameter, form in sorted(named, key=lambda each: len(each[0]), reverse=True):
            for found in name_pattern(name).finditer(self._text.rest):
                if found[0] != name and found[0] in names:
                    continue  # N and n may be two
                given, end = self._assignment(name, parameter, form, found)
                self._text.take(found.start(), end)
                if given:
                    yield given

    def _assignment(
        self, name: str, parameter: Parameter, form: Form, found: re.Match[str]
    ) -> tuple[_Given | None, int]:
        """The value that follows a name, and where it ends; None where it is only mentioned."""
        connector = _CONNECTOR.match(self._text.rest, found.end())
        assert connector  # it matches the empty text
        if not connector["equals"] and is_other_word(name, found[0]):
            return None, found.start()
        number = NUMBER.match(self._text.rest, connector.end())
        if number is None:
            self._refuse_non_number(found, connector, parameter)
            return None, found.end()
        value, end = self._with_unit(parameter, form, found.start(), number)
        quote = self._text.whole[found.start() : end]
        return _Given(parameter, _converted(form, value), quote), end

    def _refuse_non_number(
        self, found: re.Match[str], connector: re.Match[str], parameter: Parameter
    ) -> None:
        """A name that is only mentioned is fine; one that is set to something else is not."""
        after = self._text.rest[connector.end() :]
        if _sets_a_value(connector, after):
            quote = self._text.whole[found.start() : connector.end()] + _first_word(after)
            advice = f"Give {parameter.name} a number."
            raise self._text.not_understood(quote.strip(), advice)

    def _with_unit(
        self, parameter: Parameter, form: Form, start: int, number: re.Match[str]
    ) -> tuple[float, int]:
        value, end = number_of(number), number.end()
        quote = self._text.whole[start : end + 12].strip()
        if _EXPRESSION.match(self._text.rest, end):
            advice = "Give one plain number, with a point for its decimals."
            raise self._text.not_understood(quote, advice)
        if unit := _unit_at(
            parameter if form == parameter.forms[0] else None, self._text.rest, end
        ):
            return value * unit[0], unit[1]
        like = _UNIT_LIKE.match(self._text.rest, end + len(_spaces(self._text.rest, end)))
        if like or re.match(r"[A-Za-z_]", self._text.rest[end:]):
            unit_of_it = f"in {parameter.unit}" if parameter.unit else "without a unit"
            advice = f"Give {parameter.name} {unit_of_it}."
            raise self._text.not_understood(quote, advice)
        return value, end

    def _refuse_what_is_left(self) -> None:
        if found := _LEFT_OVER.search(self._text.rest):
            quote = _phrase_around(self._text.whole, found)
            raise self._text.not_understood(quote, _hint(self._recipe, quote))


def _sets_a_value(connector: re.Match[str], after: str) -> bool:
    """Whether "tau is ", "H0 of " and the like go on with something meant as a value."""
    words = (connector["words"] or "").split()
    if connector["equals"]:
        return True
    if _ARTICLE.match(after) or words[-1:] in (["a"], ["the"]):
        return False
    is_verb = any(re.fullmatch(_VERBS, word, re.IGNORECASE) for word in words)
    return is_verb or bool(words and _SPELLED_OUT.match(after))


def _first_word(text: str) -> str:
    return "".join(text.split(maxsplit=1)[:1]).rstrip(TAKEN)


def _spaces(text: str, start: int) -> str:
    found = re.compile(r"\s*").match(text, start)
    return found[0] if found else ""


def _unit_at(parameter: Parameter | None, text: str, start: int) -> tuple[float, int] | None:
    """The factor of the unit that stands there, and where it ends."""
    spellings = sorted((parameter.units if parameter else {}).items(), key=lambda u: -len(u[0]))
    for spelling, factor in spellings:
        tokens = re.findall(r"[A-Za-z]+|[-+]?\d+|[^\sA-Za-z0-9]", spelling)
        pattern = r"\s*".join(map(re.escape, tokens))
        found = re.compile(rf"\s*(?:in\s+)?[\[(]?\s*{pattern}(?![\w/^])\s*[\])]?").match(
            text, start
        )
        if found:
            return factor, found.end()
    return None


def _converted(form: Form, number: float) -> float:
    try:
        return form.factor * (math.exp(number) if form.exponential else number)
    except OverflowError:
        return math.inf


def _phrase_around(text: str, found: re.Match[str]) -> str:
    """The words that a left-over number or "=" belongs to, as they stand in the text."""
    before = text[max(0, found.start() - 80) : found.start()]
    name = _NAME_BEFORE.search(before)
    start = name.start() if name else before.find(" ", max(0, len(before) - 20))
    after = re.match(r"\s*\S*", text[found.end() :]) if "=" in found[0] else None
    phrase = before[start:] + found[0] + (after[0] if after else "")
    return " ".join(phrase.split()).rstrip(".,;")


def _hint(recipe: Recipe, quote: str) -> str:
    for name, advice in sorted(recipe.hints.items(), key=lambda hint: -len(hint[0])):
        if name_pattern(name).search(quote):
            return advice
    return "Write it as one of them, or leave it out."


# -- the configuration --------------------------------------------------------------------------
def _configured(recipe: Recipe, configured: Mapping[str, object]) -> Iterator[_Given]:
    forms = {
        key(name): (parameter, form)
        for parameter in recipe.parameters
        for form in parameter.forms
        for name in form.names
    }
    for name, value in configured.items():
        quote = f"{name} = {value}"[:100]
        if value is None and key(name) in forms and forms[key(name)][0].may_be_absent:
            continue  # as read_parameters says that it was not given
        if key(name) not in forms or isinstance(value, bool) or not isinstance(value, int | float):
            advice = "The configuration's `parameters` are numbers by these names."
            raise not_understood(quote, recipe, advice)
        parameter, form = forms[key(name)]
        yield _Given(parameter, _converted(form, value), quote)


# -- checks -------------------------------------------------------------------------------------
def _check_range(given: _Given) -> None:
    parameter, value = given.parameter, given.value
    fits = parameter.minimum <= value <= parameter.maximum
    if fits and not (parameter.integer and value != int(value)):
        return
    default = "" if parameter.default is None else f" for {parameter.default:g}"
    raise ParameterOutOfRange(
        f"{parameter.name} = {value:g} {parameter.unit}".rstrip()
        + f" (from “{given.quote}”) is out of range: {parameter.name}, the {parameter.description},"
        f" can be {parameter.range}.",
        f"Give {parameter.name} a value from {parameter.range}, or leave it out{default}.",
    )


def _check_agreement(first: _Given, second: _Given) -> None:
    if not math.isclose(first.value, second.value, rel_tol=1e-9):
        raise ParameterConflict(
            f"{first.parameter.name} is given two values: “{first.quote}” and “{second.quote}”.",
            f"Give {first.parameter.name} once.",
        )


def _without_meaning(given: _Given, recipe: Recipe) -> ParameterUnknown:
    assert given.parameter.only
    choice, option = given.parameter.only
    advice = f"{given.parameter.name} has a meaning only with {choice} = {option}: choose that, "
    return not_understood(given.quote, recipe, advice + "or leave it out.")
