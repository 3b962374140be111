"""Markdown of models and of files as HTML that can run nothing and ask no other host.

Its cost is bounded by size: what is too long, or nested beyond what anybody writes, is shown as
plain text. There is no clock: a thread cannot be stopped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

from sessions_app.console import unmasked
from sessions_app.rendering.code import block_html
from sessions_app.rendering.maths import mathml
from sessions_app.rendering.sanitising import SCHEMES, sanitised
from sessions_app.rendering.tex_fences import tex_fences

MAX_MARKDOWN = 100_000  # characters; what an agent says in one event is at most 32 KB
MAX_PLAIN = 1_000_000  # characters of it that are shown as plain text
_MAX_MARKS = 20_000  # of what opens or closes something: prose and tables have one in ten
_MAX_NESTING = 40  # a list in a list is two levels
_MAX_CELLS = 20_000
_MARKS = re.compile(r"[\[\]*_`<>$|~\\]")
_SUM = re.compile(r"\d[^\\^_={}]*\Z")  # two patterns: in one, time would grow with the square
_WORD = re.compile(r"[A-Za-z]{2}")
_LOWEST_HEADING = 6
FileAddress = Callable[[str], str | None]  # of a file that is named relative to a run
Env = MutableMapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where a text stands: below which heading, whose files it may show, who broke its lines."""

    first_heading: int = 3
    file_address: FileAddress | None = None
    keeps_lines: bool = True


DEFAULT = Setting()


def markdown_html(text: str, setting: Setting = DEFAULT) -> str:
    """Safe HTML, whatever the text. Never raises."""
    shown = unmasked(text)
    if is_excessive(shown):
        return plain_html(shown)
    parser = _KEEPING_LINES if setting.keeps_lines else _JOINING_LINES
    env: Env = {"setting": setting}
    try:
        tokens = parser.parse(shown, env)
        if any(token.nesting == 1 and token.level + 1 >= _MAX_NESTING for token in tokens):
            return plain_html(shown)  # the parser leaves out what is nested deeper
        html = str(parser.renderer.render(tokens, parser.options, env))
    except RecursionError:
        return plain_html(shown)
    return sanitised(html)


def is_excessive(text: str) -> bool:
    """Would it take longer than anybody waits for a message?"""
    return (
        len(text) > MAX_MARKDOWN
        or sum(1 for _ in _MARKS.finditer(text)) > _MAX_MARKS
        or text.count("|") > _MAX_CELLS
    )


def plain_html(text: str) -> str:
    rest = len(text) - MAX_PLAIN
    more = f"\n… {rest:,} more characters" if rest > 0 else ""
    shown = escape(text[:MAX_PLAIN].replace("\0", "\N{REPLACEMENT CHARACTER}"))
    return (
        '<pre class="plain" tabindex="0" role="group" aria-label="Text">' + shown + more + "</pre>"
    )


# -- addresses --------------------------------------------------------------------------------
def run_files(run_id: object) -> FileAddress:
    """Addresses of the files of one run, by their path as listed or relative to its folder."""

    def address(name: str) -> str | None:
        path = unquote(name).removeprefix("./")
        parts = path.split("/")
        if {"", ".", ".."} & set(parts) or "\\" in path:
            return None
        return f"/api/runs/{run_id}/files/{quote(path)}"

    return address


def _is_foreign(address: str) -> bool:
    """An address that a person may follow: to another site, or a letter."""
    return _scheme(address) in SCHEMES


def _scheme(address: str) -> str:
    try:
        return urlsplit(address.strip()).scheme.lower()
    except ValueError:
        return "?"


def _may_be_parsed(address: str) -> bool:
    """What has another scheme (javascript:, data:) stays the text that it was."""
    return _scheme(address) in SCHEMES | {""}


def _settle_addresses(state: StateCore) -> None:
    """Links lead to http, https and mailto; images show files of the run; the rest is text."""
    setting: Setting = state.env.get("setting", DEFAULT)
    for token in state.tokens:
        if token.type == "inline" and token.children:
            token.children = list(_settled(token.children, setting))


def _settled(children: Iterable[Token], setting: Setting) -> Iterator[Token]:
    dropped: list[str] = []  # addresses of links that lead nowhere, innermost last
    open_links: list[bool] = []
    for token in children:
        if token.type == "link_open":
            address = str(token.attrs.get("href", ""))
            open_links.append(_is_foreign(address))
            if open_links[-1]:
                yield token
            else:
                dropped.append(address)
        elif token.type == "link_close":
            if not open_links or open_links.pop():
                yield token
            else:
                yield _text(f" ({dropped.pop()})")
        elif token.type == "image":
            yield _settled_image(token, setting)
        elif token.type == "math_inline" and _is_between_sums(token.content):
            yield _text(f"${token.content}$")
        else:
            yield token


def _is_between_sums(content: str) -> bool:
    """ "$6, or US$" is money and no formula."""
    return bool(_SUM.match(content) and _WORD.search(content))


def _settled_image(token: Token, setting: Setting) -> Token:
    address = str(token.attrs.get("src", ""))
    local = not _scheme(address) and setting.file_address is not None
    found = setting.file_address(address) if local and setting.file_address else None
    if found is None:
        return _text(f"{token.content} ({address})".strip())
    token.attrs = {"src": found, "alt": "", "loading": "lazy"}
    return token


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)


# -- headings and tables ----------------------------------------------------------------------
def _settle_headings(state: StateCore) -> None:
    """A model's levels begin below the page's own and leave none out."""
    setting: Setting = state.env.get("setting", DEFAULT)
    above: list[int] = []
    for token in state.tokens:
        if token.type == "heading_open":
            level = int(token.tag[1])
            while above and above[-1] >= level:
                above.pop()
            above.append(level)
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(setting.first_heading + len(above) - 1, _LOWEST_HEADING)}"


def _cell_open(
    self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Env
) -> str:
    """markdown-it aligns by a style attribute, which our policy forbids."""
    token = tokens[index]
    aligned = str(token.attrs.get("style", "")).removeprefix("text-align:")
    kind = f' class="{aligned}"' if aligned in {"left", "center", "right"} else ""
    if token.tag == "td":
        return f"<td{kind}>"
    return f'<th{kind} scope="col">{_name_of_formula(tokens[index + 1])}'


def _name_of_formula(inline: Token) -> str:
    """A head that is a formula alone has no text: many who listen would hear nothing."""
    children = inline.children or []
    if not children or any(not child.type.startswith("math") for child in children):
        return ""
    return f'<span class="vh">{escape(" ".join(child.content for child in children))}</span>'


def _table_open(*_: Any) -> str:
    return '<div class="scroller" tabindex="0" role="group" aria-label="Table"><table>\n'


def _table_close(*_: Any) -> str:
    return "</table></div>\n"


# -- code and maths ---------------------------------------------------------------------------
def _code(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Env) -> str:
    token = tokens[index]
    language = token.info.split(maxsplit=1)[0] if token.info.strip() else ""
    return block_html(token.content, language) + "\n"


def _formula(self: RendererHTML, tokens: Sequence[Token], index: int, *_: Any) -> str:
    return mathml(tokens[index].content.strip(), is_block=False)


def _displayed(self: RendererHTML, tokens: Sequence[Token], index: int, *_: Any) -> str:
    formula = mathml(tokens[index].content.strip(), is_block=True)
    return f'<div class="maths" tabindex="0" role="group" aria-label="Formula">{formula}</div>\n'


def _displayed_in_a_line(self: RendererHTML, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """A paragraph holds no block: the formula says itself that it is displayed."""
    return mathml(tokens[index].content.strip(), is_block=True)


def _parser(*, keeps_lines: bool) -> MarkdownIt:
    made = MarkdownIt(
        "commonmark", {"html": False, "breaks": keeps_lines, "maxNesting": _MAX_NESTING}
    )
    made.enable(["table", "strikethrough"])
    made.use(
        dollarmath_plugin,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        double_inline=True,
    )
    made.disable("math_block")  # tex_fences has one that ends
    made.use(tex_fences)
    made.validateLink = _may_be_parsed  # type: ignore[method-assign, assignment]  # as its documents say
    made.core.ruler.push("settle_addresses", _settle_addresses)
    made.core.ruler.push("settle_headings", _settle_headings)
    for name, rule in _RULES.items():
        made.add_render_rule(name, rule)
    made.render("*warm*")  # its rules are put in order at the first text: not by two threads
    return made


_RULES: dict[str, Callable[..., str]] = {
    "fence": _code,
    "code_block": _code,
    "th_open": _cell_open,
    "td_open": _cell_open,
    "table_open": _table_open,
    "table_close": _table_close,
    "math_inline": _formula,
    "math_inline_double": _displayed_in_a_line,
    "math_block": _displayed,
}
_KEEPING_LINES = _parser(keeps_lines=True)
_JOINING_LINES = _parser(keeps_lines=False)
