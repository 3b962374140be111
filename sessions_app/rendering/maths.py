r"""TeX as MathML that a browser draws without a script; the TeX stays inside it, for copying.

latex2mathml writes what it does not know as text and lets `\text{<b>}` out as a tag. So its tree is
taken, not its text: elements and attributes that are not listed here are refused, and what it
does not know is shown as the TeX that it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from html import escape
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element

MAX_TEX = 4000  # characters of a formula; a longer one is shown as its TeX
_MAX_NODES = 4000
_MAX_DEPTH = 60  # a browser nests boxes for each
# Macros can be defined so that a few characters expand without end; `\href` and its like make
# links, styles and names, which maths has no need of.
_REFUSED = re.compile(
    r"\\(?:newcommand|renewcommand|providecommand|def|let|gdef|edef|newenvironment"
    r"|DeclareMathOperator|href|url|style|class|cssId|id|require|unicode)(?![a-zA-Z])"
)
# Environments by what the library calls their like. Numbers of equations are left out: they would
# begin again in each formula.
_ENVIRONMENTS = {
    **dict.fromkeys(
        ["matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix", "smallmatrix"]
    ),
    **dict.fromkeys(["array", "cases", "split", "equation", "equation*"]),
    **dict.fromkeys(["align", "align*", "aligned", "flalign", "flalign*"], "align*"),
    **dict.fromkeys(["gather", "gather*", "gathered", "multline", "multline*"], "align*"),
    **dict.fromkeys(["alignat", "alignat*", "alignedat"], "align*"),
    "dcases": "cases",
}
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([^{}]*)\}((?<=at\}|t\*\})\{\d+\})?")
_SIGNS = frozenset({"±", "∓"})
_CHILDREN = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2} | {
    "msubsup": 3,
    "munderover": 3,
}
# Without meaning here, or known by another name.
_REWRITTEN = {r"\AA": r"\text{Å}", r"\middle": ""}
_TO_REWRITE = re.compile(r"\\label\{[^{}]*\}|\\(?:AA|middle)(?![a-zA-Z])")
_ENTITY = re.compile(r"&#x([0-9A-Fa-f]{1,6});")
_UNKNOWN = re.compile(r"\\[a-zA-Z]")
_LENGTH = re.compile(r"[+-]?(\d{0,3}\.?\d{0,3})(em|ex|px|pt|mu|%)?")
_MAX_LENGTH = 20.0  # in any unit but px, pt and %: a rule of 1,000 em would cover the page
_WORD = re.compile(r"[a-z-]{1,20}")
_COLOUR = re.compile(r"#[0-9A-Fa-f]{3,8}|[A-Za-z]{1,20}")

TAGS = frozenset(
    [
        "math",
        "semantics",
        "annotation",
        "mrow",
        "mi",
        "mn",
        "mo",
        "mtext",
        "mspace",
        "mfrac",
        "msqrt",
        "mroot",
        "msub",
        "msup",
        "msubsup",
        "munder",
        "mover",
        "munderover",
        "mmultiscripts",
        "mprescripts",
        "none",
        "mtable",
        "mtr",
        "mtd",
        "mlabeledtr",
        "mstyle",
        "mpadded",
        "mphantom",
        "menclose",
    ]
)
_WORDS = [
    "display",
    "displaystyle",
    "stretchy",
    "fence",
    "form",
    "largeop",
    "movablelimits",
    "accent",
    "accentunder",
    "symmetric",
    "columnalign",
    "linebreak",
    "scriptlevel",
    "notation",
    "separator",
    "lspace",
    "rspace",
]
_LENGTHS = [
    "width",
    "height",
    "depth",
    "voffset",
    "minsize",
    "maxsize",
    "linethickness",
    "lspace",
    "rspace",
    "mathsize",
    "rowspacing",
    "columnspacing",
]
ATTRIBUTES = frozenset({*_WORDS, *_LENGTHS, "mathcolor", "mathvariant", "encoding"})


class _NotShown(Exception):
    """This TeX is shown as text."""


@lru_cache(maxsize=2048)  # the same symbols again and again
def mathml(tex: str, *, is_block: bool) -> str:
    """A formula as HTML: MathML, or its TeX as code where that cannot be."""
    display = "block" if is_block else "inline"
    try:
        content = _converted(tex, display)
    except _NotShown:
        return f'<code class="tex">{escape(tex)}</code>'
    annotation = f'<annotation encoding="application/x-tex">{escape(tex)}</annotation>'
    return f'<math display="{display}"><semantics>{content}{annotation}</semantics></math>'


def _converted(tex: str, display: str) -> str:
    if len(tex) > MAX_TEX or _REFUSED.search(tex):
        raise _NotShown
    try:
        tree = convert_to_element(_rewritten(tex), display=display)
    except Exception as error:
        # the library has no error of its own for all that it does not understand: it raises
        # RecursionError, IndexError, KeyError, StopIteration, AttributeError …
        raise _NotShown from error
    rows = list(tree)
    if len(rows) != 1 or sum(1 for _ in tree.iter()) > _MAX_NODES:
        raise _NotShown
    return "".join(_written(rows[0], depth=0))


def _rewritten(tex: str) -> str:
    known = _TO_REWRITE.sub(lambda found: _REWRITTEN.get(found[0], ""), tex)
    return _ENVIRONMENT.sub(_environment, known)


def _environment(found: re.Match[str]) -> str:
    word, name = found[1], found[2]
    if name in {"eqnarray", "eqnarray*"}:
        return r"\begin{array}{rcl}" if word == "begin" else r"\end{array}"
    if name not in _ENVIRONMENTS:
        raise _NotShown
    return f"\\{word}{{{_ENVIRONMENTS[name] or name}}}"


def _written(element: Element, depth: int) -> Iterator[str]:
    tag = element.tag
    if tag not in TAGS or depth > _MAX_DEPTH or _CHILDREN.get(tag, len(element)) != len(element):
        raise _NotShown
    text = _text(element)
    if text in _SIGNS:
        tag = "mo"  # the library takes them for letters, which have no space around them
    yield f"<{tag}{_attributes(element)}>"
    yield escape(text)
    for child in element:
        yield from _written(child, depth + 1)
    yield f"</{tag}>"


def _attributes(element: Element) -> str:
    kept = ((name, _value(name, value)) for name, value in element.attrib.items())
    return "".join(f' {name}="{escape(value)}"' for name, value in kept if value)


def _value(name: str, value: str) -> str:
    """The value if it is one that only lays out a formula; empty if not."""
    if name == "mathcolor":
        return value if _COLOUR.fullmatch(value) else ""
    if name == "mathvariant":
        return "normal" if value == "normal" else ""  # browsers know no other: see _text
    parts = value.split()
    if name in _LENGTHS and parts and all(map(_is_length, parts)):
        return value
    return value if name in _WORDS and (_WORD.fullmatch(value) or value.isdigit()) else ""


def _is_length(value: str) -> bool:
    found = _LENGTH.fullmatch(value)
    if not found or not any(map(str.isdigit, found[1])):
        return False
    most = 400.0 if found[2] in {"px", "pt", "%"} else _MAX_LENGTH
    return float(found[1]) <= most


def _text(element: Element) -> str:
    text = _ENTITY.sub(lambda found: _character(int(found[1], 16)), element.text or "")
    if _UNKNOWN.match(text):
        raise _NotShown
    variant = element.get("mathvariant", "normal")
    return "".join(_styled(c, variant) for c in text) if variant in _STYLES else text


def _character(number: int) -> str:
    """Never one that turns text around or that is no character at all."""
    if number > 0x10FFFF or unicodedata.category(chr(number)) in {"Cc", "Cs", "Cf"}:
        return "\N{REPLACEMENT CHARACTER}" if number != 0x2061 else ""
    return chr(number)


_STYLES = {
    "bold": "BOLD",
    "italic": "ITALIC",
    "bold-italic": "BOLD ITALIC",
    "script": "SCRIPT",
    "bold-script": "BOLD SCRIPT",
    "fraktur": "FRAKTUR",
    "bold-fraktur": "BOLD FRAKTUR",
    "double-struck": "DOUBLE-STRUCK",
    "sans-serif": "SANS-SERIF",
    "bold-sans-serif": "SANS-SERIF BOLD",
    "sans-serif-italic": "SANS-SERIF ITALIC",
    "monospace": "MONOSPACE",
}


@lru_cache(maxsize=2048)
def _styled(character: str, variant: str) -> str:
    """MathML Core has no `mathvariant`: a bold v is a character of its own."""
    name = unicodedata.name(character, "")
    letter = re.sub(r"^(?:LATIN|GREEK) (SMALL|CAPITAL) LETTER ", r"\1 ", name)
    try:
        return unicodedata.lookup(f"MATHEMATICAL {_STYLES[variant]} {letter}")
    except KeyError:
        return character
