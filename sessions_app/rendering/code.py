"""Code as HTML with a class for each sort of token; app.css has their colours, light and dark."""

from __future__ import annotations

import json
import threading
from functools import cache
from html import escape

from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES

MAX_HIGHLIGHTED = 200_000  # characters; what is longer stays plain
MAX_LAID_OUT = 1_000_000
_INDENTED = json.JSONEncoder(ensure_ascii=False, indent=2)
# Lexers look ahead over lines and over empty space: what has more than people write stays plain.
_LONGEST_LINE = 400
_LONGEST_GAP = 20  # empty lines
# Lexers whose time grows with the text and no faster: tests/sessions_app/test_rendering_bounds.py
_LANGUAGES = {
    "python": "python py python3 pycon ipython",
    "json": "json ipynb jsonc",
    "bash": "bash sh shell zsh console",
    "yaml": "yaml yml",
    "toml": "toml",
    "ini": "ini cfg conf",
    "c": "c h",
    "cpp": "cpp c++ cc hpp cxx",
    "fortran": "fortran f90 f95",
    "julia": "julia jl",
    "r": "r",
    "tex": "tex latex bib",
    "diff": "diff patch",
    "sql": "sql",
    "javascript": "javascript js",
    "css": "css",
    "rust": "rust rs",
}
# what is looked for up to the end of the text, each time that it begins
_COSTLY = {"cpp": ('R"', 200), "rust": ("r#", 200)}
_LEXERS = {alias: name for name, aliases in _LANGUAGES.items() for alias in aliases.split()}
CLASSES = frozenset(STANDARD_TYPES.values()) - {""}
_FORMATTER = HtmlFormatter(nowrap=True)
_LOADING = threading.Lock()  # a lexer makes its tables when it is first used, not for two at once


def code_html(code: str, language: str = "") -> str:
    """Code escaped, its tokens in spans; as it is where the language is not known."""
    alias = language.strip().lower()
    lexer = _lexer(alias)
    if lexer is None or len(code) > MAX_HIGHLIGHTED or not _is_as_written(code, alias):
        return escape(code)
    shown: str = highlight(code, lexer, _FORMATTER)
    return shown.removesuffix("\n")


def block_html(code: str, language: str = "", label: str = "Code") -> str:
    """A block of code that can be scrolled with the keyboard."""
    inside = code_html(code.rstrip("\n"), language)
    return (
        f'<pre class="code" tabindex="0" role="group" aria-label="{escape(label)}">'
        f"<code>{inside}</code></pre>"
    )


def laid_out(value: object) -> str | None:
    """JSON, each value on a line of its own; None for what is so deeply nested that its indents
    would be a thousand times its length."""
    pieces: list[str] = []
    size = 0
    try:
        for piece in _INDENTED.iterencode(value):
            size += len(piece)
            if size > MAX_LAID_OUT:
                return None
            pieces.append(piece)
    except RecursionError:
        return None
    return "".join(pieces)


def language_of(path: str) -> str:
    """By the ending of a name; empty if none is known."""
    ending = path.rpartition("/")[2].rpartition(".")[2].lower()
    return ending if ending in _LEXERS else ""


def _is_as_written(code: str, alias: str) -> bool:
    beginning, most = _COSTLY.get(_LEXERS[alias], ("", 0))
    if beginning and code.count(beginning) > most:
        return False
    gap = 0
    for line in code.splitlines():
        gap = 0 if line.strip() else gap + 1
        if len(line) > _LONGEST_LINE or gap > _LONGEST_GAP:
            return False
    return True


def _lexer(language: str) -> Lexer | None:
    name = _LEXERS.get(language)
    if name is None:
        return None
    with _LOADING:
        return _loaded(name)


@cache
def _loaded(name: str) -> Lexer:
    lexer: Lexer = get_lexer_by_name(name, stripnl=False, ensurenl=True)
    for _ in lexer.get_tokens(" "):  # makes its tables
        pass
    return lexer
