"""Reads which options of a recipe's choices, and which of the session's files, a person means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cmbagent.errors import InputMissing, ParameterConflict
from cmbagent.recipes.document import Choice, InputFile, Recipe
from cmbagent.recipes.notation import key, name_pattern, plain
from cmbagent.recipes.text import TAKEN, Text, not_understood

_MAX_NAMED = 12  # files in a message


# -- choices ------------------------------------------------------------------------------------
def read_choice(text: Text, choice: Choice) -> str | None:
    """What the text chooses; None when it says nothing about it. Raises ParameterUnknown,
    ParameterConflict."""
    chosen = _mentioned(text, choice)
    for name in choice.names:
        text.take_all(
            re.compile(rf"{name_pattern(name).pattern}\s*[:=]\s*(?={TAKEN})", re.IGNORECASE)
        )
        if found := re.search(
            rf"{name_pattern(name).pattern}\s*=+\s*\S*", text.rest, re.IGNORECASE
        ):
            raise text.not_understood(found[0], f"Give {choice.name} {choice.range}.")
    return _agreed(choice, chosen) if chosen else None


def _mentioned(text: Text, choice: Choice) -> dict[str, str]:
    """Each option that the text mentions, with the words that did."""
    phrases = [(phrase, option) for option, all_ in choice.options.items() for phrase in all_]
    chosen: dict[str, str] = {}
    for phrase, option in sorted(phrases, key=lambda each: -len(each[0])):
        for quote in text.taken_phrases(phrase, advice=f"Say {choice.range}."):
            chosen.setdefault(option, quote)
    return chosen


def _agreed(choice: Choice, chosen: dict[str, str]) -> str:
    """Options in their own order, whatever the order of the text."""
    if len(chosen) > 1 and not choice.several:
        quotes = " and ".join(f"“{quote}”" for quote in chosen.values())
        raise ParameterConflict(
            f"{choice.name} is given {len(chosen)} values: {quotes}.", f"Give {choice.range}."
        )
    return ",".join(option for option in choice.options if option in chosen)


def configured_choice(recipe: Recipe, choice: Choice, value: object) -> str | None:
    """None for None. Raises ParameterUnknown for what is no option."""
    if value is None:
        return None
    options = {key(phrase): name for name, all_ in choice.options.items() for phrase in all_}
    parts = re.split(r"[,;]", value) if isinstance(value, str) and choice.several else [value]
    chosen = {}
    for part in parts:
        if not isinstance(part, str) or key(part) not in options:
            quote = f"{choice.name} = {value}"[:100]
            raise not_understood(quote, recipe, f"Give {choice.name} {choice.range}.")
        chosen[options[key(part)]] = part
    return _agreed(choice, chosen)


def agreed_choice(choice: Choice, told: str | None, configured: str | None) -> str | None:
    """Raises ParameterConflict when the text and the configuration say different things."""
    if told is not None and configured is not None and told != configured:
        raise ParameterConflict(
            f"{choice.name} is given two values: “{told}” and “{configured}”.",
            f"Give {choice.name} once.",
        )
    return told or configured


# -- files --------------------------------------------------------------------------------------
def read_file_name(text: Text, needed: InputFile, files: Iterable[str]) -> str | None:
    """The file that the text names; None when it names none. Raises InputMissing when it names
    one that is not there, ParameterConflict when it names two."""
    fitting = [path for path in files if path.lower().endswith(needed.endings)]
    named = [path for path in sorted(fitting, key=len, reverse=True) if _takes(text, path)]
    endings = "|".join(map(re.escape, needed.endings))
    if absent := re.search(rf"[^\s{TAKEN}]+(?:{endings})(?![\w.])", text.rest, re.IGNORECASE):
        raise InputMissing(f"There is no file “{absent[0]}” in the session.", _offer(fitting))
    if len(named) > 1:
        raise ParameterConflict(f"The task names {_listed(named)}.", "Name one of them.")
    return named[0] if named else None


def _takes(text: Text, path: str) -> bool:
    pattern = re.compile(rf"(?<![\w./-]){re.escape(plain(path).strip())}(?![\w-]|\.\w)")
    found = bool(pattern.search(text.rest))
    text.take_all(pattern)
    return found


def chosen_file(
    recipe: Recipe,
    needed: InputFile,
    told: str | None,
    configured: object,
    files: Sequence[str],
) -> str:
    """The named file, or the only one that the recipe did not make itself. Raises InputMissing,
    ParameterConflict."""
    fitting = [path for path in files if path.lower().endswith(needed.endings)]
    if configured is not None and configured not in fitting:
        raise InputMissing(f"There is no file “{configured}” in the session.", _offer(fitting))
    if told and configured and told != configured:
        raise ParameterConflict(
            f"The task names {told}, its configuration {configured}.", "Name one."
        )
    if path := told or configured:
        return str(path)
    meant = [path for path in fitting if path not in recipe.makes]
    if len(meant) == 1:
        return meant[0]
    if not meant:
        raise InputMissing(f"The session has no file ({' or '.join(needed.endings)}).", _offer([]))
    raise InputMissing(f"The session has several: {_listed(meant)}.", "Name one in the task.")


def _offer(fitting: Sequence[str]) -> str:
    return f"Name one of: {_listed(fitting)}." if fitting else "Upload one to the session first."


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _MAX_NAMED} more" if len(paths) > _MAX_NAMED else ""
    return ", ".join(paths[:_MAX_NAMED]) + more
