"""Finds the Python that a person fenced in the text of a task.

Fences are Markdown's: three or more backticks or tildes, closed by at least as many of the same.
Only a fence that says python (python, py, python3) is run: without a language nobody can know
whether the text is code, output or an example. A fence may be indented, as inside a list; its
indentation is taken off its lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cmbagent.errors import FenceUnterminated

_PYTHON = {"python", "py", "python3"}
_OPENING = re.compile(r"(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})(?P<info>.*)")


@dataclass
class _Fence:
    indent: str
    mark: str
    info: str
    line: int  # where it begins, from 1

    def is_closed_by(self, line: str) -> bool:
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        return (
            set(stripped) == {self.mark[0]}
            and len(stripped) >= len(self.mark)
            and indent <= len(self.indent) + 3  # deeper ones are text, say of a docstring
        )

    def is_python(self) -> bool:
        words = self.info.split()
        return bool(words) and words[0].lower() in _PYTHON

    def without_indent(self, line: str) -> str:
        kept = len(line) - len(line.lstrip(" \t"))
        return line[min(kept, len(self.indent)) :]


def python_blocks(text: str) -> list[str]:
    """The code of each Python fence, in order. Raises FenceUnterminated naming the line."""
    blocks: list[str] = []
    fence: _Fence | None = None
    code: list[str] = []
    # not splitlines: a form feed or U+2028 inside a string of the code is no end of a line
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if fence is None:
            fence, code = _opened_by(line, number), []
        elif fence.is_closed_by(line):
            if fence.is_python():
                blocks.append("".join(f"{each}\n" for each in code))
            fence = None
        else:
            code.append(fence.without_indent(line))
    if fence is not None:
        raise _unterminated(fence)
    return blocks


def has_fence(text: str) -> bool:
    """Whether anything is fenced at all, in whatever language."""
    return any(_opened_by(line, 0) for line in text.split("\n"))


def _opened_by(line: str, number: int) -> _Fence | None:
    found = _OPENING.fullmatch(line.rstrip())
    if not found or (found["fence"][0] == "`" and "`" in found["info"]):
        return None  # "```x```" is inline code
    return _Fence(found["indent"], found["fence"], found["info"], number)


def _unterminated(fence: _Fence) -> FenceUnterminated:
    return FenceUnterminated(
        f"The fence {fence.mark}{fence.info} on line {fence.line} of the task is never closed.",
        f"Put a line with {fence.mark} where the block ends.",
    )
