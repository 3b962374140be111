"""A text while it is read: what is understood is taken out of it, and what is left is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cmbagent.errors import ParameterUnknown
from cmbagent.recipes.document import Recipe
from cmbagent.recipes.notation import name_pattern, plain

TAKEN = "\x01"  # understood already; joins no names, is no space
_NEGATION = re.compile(
    r"(?:\bnon|\bnot|\bisn t|\bn t|\bno|\bwithout|\bexcept|\bexcluding)[\s-]*$", re.IGNORECASE
)


class Text:
    """`whole` is the text in plain notation, `rest` has TAKEN in the place of what was taken."""

    def __init__(self, recipe: Recipe, text: str) -> None:
        self.recipe = recipe
        self.whole = self.rest = plain(text)

    def take(self, start: int, end: int) -> None:
        self.rest = self.rest[:start] + TAKEN * (end - start) + self.rest[end:]

    def take_all(self, pattern: re.Pattern[str]) -> None:
        for found in pattern.finditer(self.rest):
            self.take(found.start(), found.end())

    def taken_phrases(self, phrase: str, *, advice: str) -> Iterator[str]:
        """Takes each place where the phrase stands; what stands there. Raises ParameterUnknown
        where it is negated."""
        for found in name_pattern(phrase).finditer(self.rest):
            if is_other_word(phrase, found[0]):
                continue
            if before := _NEGATION.search(self.whole[: found.start()]):
                raise self.not_understood(self.whole[before.start() : found.end()], advice)
            self.take(found.start(), found.end())
            yield found[0]

    def not_understood(self, quote: str, advice: str) -> ParameterUnknown:
        return not_understood(quote, self.recipe, advice)


def is_other_word(name: str, found: str) -> bool:
    """The English word "as" is no As."""
    letters, found_letters = (re.sub("[^A-Za-z]", "", each) for each in (name, found))
    return len(letters) < 3 and letters != found_letters


def not_understood(quote: str, recipe: Recipe, advice: str) -> ParameterUnknown:
    names = ", ".join(f"{each.name} ({each.range})" for each in recipe.fields) or "no values"
    return ParameterUnknown(
        f"“{quote}” is not understood by the recipe “{recipe.title}”. It reads {names}.", advice
    )
