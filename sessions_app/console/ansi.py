"""What a terminal would make of a line: its last state, its colours as classes, nothing else.

static/console.js does the same with the lines that arrive later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString

LONGEST_LINE = 4000  # characters shown; the whole console has all of it
_CUT = " … (the whole log has the rest)"
_SGR = re.compile(r"\x1b\[([0-9;]*)m")
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*)?$")  # a piece may end within a colour
_MAX_BEGUN = 32
# they turn what follows them around: text of a model or of code could look like other text
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
# what a terminal makes of 0 to 15, to find the nearest of them
_PALETTE = (
    *((0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0)),
    *((0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229)),
    *((127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0)),
    *((92, 92, 255), (255, 0, 255), (0, 255, 255), (255, 255, 255)),
)


def unmasked(text: str) -> str:
    """The text in the order in which it is written: what would turn it around is shown instead."""
    return _TURNING.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def folded(text: str) -> str:
    r"""A progress bar overwrites its line with \r: what a terminal would show in the end."""
    return text.rstrip("\r").rpartition("\r")[2]


def plain(raw: str) -> str:
    """All of a line that is text, uncut."""
    return unmasked(_ESCAPES.sub("", folded(raw)))


def shown(raw: str) -> str:
    text = plain(raw)
    return text if len(text) <= LONGEST_LINE else text[:LONGEST_LINE] + _CUT


@dataclass(frozen=True)
class Pen:
    """The colour (0 to 15) in which a stream writes on, and how boldly."""

    colour: int | None = None
    is_bold: bool = False

    @property
    def classes(self) -> str:
        names = [] if self.colour is None else [f"a{self.colour}"]
        return " ".join([*names, *(["ab"] if self.is_bold else [])])

    def after(self, text: str) -> Pen:
        """What these characters make of it."""
        pen = self
        if "\x1b" in text:
            for found in _SGR.finditer(text):
                pen = pen.changed(found[1])
        return pen

    def changed(self, codes: str) -> Pen:
        pen = self
        rest = iter([int(code[:4] or 0) for code in codes.split(";")])
        for code in rest:
            pen = pen._changed(code, rest)
        return pen

    def _changed(self, code: int, rest: Iterator[int]) -> Pen:
        match code:
            case 0:
                return Pen()
            case 1 | 22:
                return replace(self, is_bold=code == 1)
            case 39:
                return replace(self, colour=None)
            case 38 | 48:
                colour = _extended(rest)
                return replace(self, colour=colour) if code == 38 else self
            case _ if 30 <= code <= 37 or 90 <= code <= 97:
                return replace(self, colour=code - 30 if code < 40 else code - 82)
        return self


def _extended(rest: Iterator[int]) -> int | None:
    """The nearest of our sixteen to what follows 38 or 48: `5;n` or `2;r;g;b`."""
    kind = next(rest, 0)
    if kind == 5:
        return _of_256(next(rest, 0))
    return _nearest(next(rest, 0), next(rest, 0), next(rest, 0)) if kind == 2 else None


def _of_256(number: int) -> int:
    if number < 16:
        return number
    if number > 231:
        grey = 8 + 10 * (min(number, 255) - 232)
        return _nearest(grey, grey, grey)
    steps = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    return _nearest(*(55 + 40 * step if step else 0 for step in steps))


def _nearest(red: int, green: int, blue: int) -> int:
    def distance(index: int) -> int:
        r, g, b = _PALETTE[index]
        return (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2

    return min(range(16), key=distance)


class Ink:
    """The pen of one stream, over pieces that may end within a colour."""

    def __init__(self) -> None:
        self.pen = Pen()
        self._begun = ""

    def write(self, piece: str) -> None:
        text = self._begun + piece
        begun = _BEGUN.search(text[-_MAX_BEGUN:])
        self._begun = begun[0] if begun else ""
        self.pen = self.pen.after(text)


def painted(raw: str, pen: Pen) -> SafeString:
    """A line as HTML: text, and spans of classes where it is coloured."""
    start = raw.rstrip("\r").rfind("\r") + 1
    pen, text = pen.after(raw[:start]), raw[start:].strip("\r")
    return _coloured(text, pen) if "\x1b" in text else _span(shown(text), pen)


def _coloured(text: str, pen: Pen) -> SafeString:
    html, room = escape(""), LONGEST_LINE
    for piece, colour in _pieces(text, pen):
        html += _span(piece[:room], colour)
        if len(piece) > room:
            return html + escape(_CUT)
        room -= len(piece)
    return html


def _pieces(text: str, pen: Pen) -> Iterator[tuple[str, Pen]]:
    at = 0
    for found in _SGR.finditer(text):
        yield unmasked(_ESCAPES.sub("", text[at : found.start()])), pen
        at, pen = found.end(), pen.changed(found[1])
    yield unmasked(_ESCAPES.sub("", text[at:])), pen


def _span(text: str, pen: Pen) -> SafeString:
    if not text or not pen.classes:
        return escape(text)
    return format_html('<span class="{}">{}</span>', pen.classes, text)
