r"""`\(…\)`, `\[…\]`, `$$` and environments, as models write maths, beside the dollars within a line.

Rules of the parser, not a replacement in the text: so code keeps its backslashes. They stand before
the rule for escapes, which would take `\[` for a bracket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

from sessions_app.rendering.maths import MAX_TEX

_CLOSING = {"\\(": "\\)", "\\[": "\\]"}
_INTERRUPTS: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
_ENVIRONMENT = re.compile(
    r"\\begin\{((?:equation|multline|gather|align|aligned|alignat|flalign|eqnarray"
    r"|[pbBvV]?matrix|cases)\*?)\}"
)


def tex_fences(md: MarkdownIt) -> None:
    """Makes tokens `math_inline`, `math_inline_double` and `math_block`, as dollarmath does."""
    md.inline.ruler.before("escape", "tex_fences", _inline)
    md.block.ruler.before("fence", "tex_block", _block, _INTERRUPTS)


def _inline(state: StateInline, silent: bool) -> bool:
    opening = state.src[state.pos : state.pos + 2]
    closing = _CLOSING.get(opening)
    if closing is None:
        return False
    # so far and no further: a thousand that are never closed would each look through all the text
    end = state.src.find(closing, state.pos + 2, min(state.posMax, state.pos + 2 + MAX_TEX))
    if end < 0 or not state.src[state.pos + 2 : end].strip():
        return False
    if not silent:
        kind = "math_inline" if opening == "\\(" else "math_inline_double"
        token = state.push(kind, "math", 0)
        token.content = state.src[state.pos + 2 : end]
        token.markup = opening
    state.pos = end + 2
    return True


@dataclass(frozen=True)
class _Fence:
    """How a formula on lines of its own begins and ends."""

    opening: str
    closing: str
    is_shown: bool = False  # the opening and the closing are TeX themselves


_DOLLARS = _Fence("$$", "$$")
_BRACKETS = _Fence("\\[", "\\]")


def _block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """Also straight after a line of text: dollarmath's own rule wants an empty line before."""
    fence = _fence_of(_line(state, start_line))
    if fence is None or state.is_code_block(start_line):
        return False
    last = _closing_line(state, start_line, end_line, fence)
    if last is None:
        return False
    if silent:
        return True
    text = "\n".join(_line(state, line) for line in range(start_line, last + 1))
    state.line = last + 1
    token = state.push("math_block", "math", 0)
    token.block = True
    token.content = text if fence.is_shown else text[len(fence.opening) : -len(fence.closing)]
    token.markup = fence.opening
    token.map = [start_line, state.line]
    return True


def _fence_of(line: str) -> _Fence | None:
    if line.startswith("$$"):
        return _DOLLARS
    if line.startswith("\\["):
        return _BRACKETS
    found = _ENVIRONMENT.match(line)
    return _Fence(found[0], f"\\end{{{found[1]}}}", is_shown=True) if found else None


def _closing_line(state: StateBlock, start_line: int, end_line: int, fence: _Fence) -> int | None:
    """Looks no further than a formula may be long, and not beyond one that begins meanwhile."""
    size = 0
    for line in range(start_line, end_line):
        text = _line(state, line)
        if line == start_line:
            text = text[len(fence.opening) :]
        elif not text or state.sCount[line] < state.blkIndent:
            return None  # TeX has no empty line in a formula: this one is never closed
        elif fence is not _DOLLARS and text.startswith(fence.opening):
            return None
        size += len(text)
        if size > MAX_TEX:
            return None
        if fence.closing in text:
            # something after it belongs to a paragraph, whose rules look again
            is_end = text.endswith(fence.closing) and text.count(fence.closing) == 1
            return line if is_end else None
    return None


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
