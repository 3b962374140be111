"""What a file shows of itself on its page: the beginning of it, whatever is inside.

Files are a run's or a person's: never trusted, read in bounded pieces, and no name, encoding or
content may raise.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from django.utils.safestring import SafeString, mark_safe

from execution_app.models import Artifact
from execution_app.services import artifact_file
from sessions_app.console import unmasked
from sessions_app.rendering.code import block_html, laid_out, language_of
from sessions_app.rendering.markdown import Setting, markdown_html, run_files
from sessions_app.rendering.pictures import Size, picture_size

TEXT_BYTES = 200_000
TABLE_BYTES = 2_000_000  # in which the first rows are looked for
ROWS, COLUMNS = 200, 30
_LONGEST_CELL = 200
_LONGEST_NUMBER = 60
_COUNTED_BYTES = 64 * 2**20  # in which lines are counted
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg"})
_TABLES = frozenset({".csv", ".tsv"})
_NUMBER = re.compile(
    r"\s*[-+]?(\d[\d_,]*\.?\d*|\.\d+)([eE][-+]?\d+)?\s*|\s*[-+]?(nan|inf)\s*", re.IGNORECASE
)
Kind = Literal["picture", "table", "text", "prose", "document", "none"]


_NOTHING = SafeString("")


@dataclass(frozen=True)
class Cell:
    text: str
    is_number: bool


@dataclass(frozen=True)
class Preview:
    """`note` says how much of the file is shown."""

    kind: Kind
    note: str = ""
    html: SafeString = _NOTHING
    head: Sequence[Cell] = ()  # as the first row below: names stand over their numbers
    rows: Sequence[Sequence[Cell]] = ()
    size: Size | None = None


def preview_of(artifact: Artifact) -> Preview:
    """Raises FileNotFoundError when its bytes are gone."""
    ending = _ending(artifact.path)
    if ending in _PICTURES:
        return Preview("picture", size=picture_size(artifact_file(artifact)))
    if ending == ".pdf":
        return Preview("document")
    head = _read(artifact, TABLE_BYTES if ending in _TABLES else TEXT_BYTES)
    text = _text(head)
    if text is None:
        return Preview("none", "It is no text.")
    if ending in _TABLES and (table := _table(artifact, text, ending)):
        return table
    return _prose(artifact, text) if ending == ".md" else _code(artifact, text[:TEXT_BYTES])


def _ending(path: str) -> str:
    name = path.rpartition("/")[2].lower()
    return "." + name.rpartition(".")[2] if "." in name else ""


def _read(artifact: Artifact, size: int) -> bytes:
    with artifact_file(artifact).open("rb") as file:
        return file.read(size)


def _text(head: bytes) -> str | None:
    """Decoded whatever it takes; None for what is no text."""
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return head.decode("utf-16", "replace")
    if b"\0" in head[:8192]:
        return None
    return head.decode("utf-8-sig", "replace")


def _shown_part(artifact: Artifact, shown: int) -> str:
    return (
        f"The first {shown // 1000} KB of {artifact.size:,} bytes." if artifact.size > shown else ""
    )


def _prose(artifact: Artifact, text: str) -> Preview:
    files = run_files(artifact.run_id) if artifact.run_id else None
    html = markdown_html(text, Setting(first_heading=2, file_address=files, keeps_lines=False))
    return Preview("prose", _shown_part(artifact, TEXT_BYTES), mark_safe(html))  # noqa: S308  sanitised


def _code(artifact: Artifact, text: str) -> Preview:
    language = language_of(artifact.path)
    if language in {"json", "ipynb"} and artifact.size <= TEXT_BYTES:
        text = _laid_out(text)
    html = block_html(unmasked(text), language, "Content")
    return Preview("text", _shown_part(artifact, TEXT_BYTES), mark_safe(html))  # noqa: S308  escaped


def _laid_out(text: str) -> str:
    try:
        return laid_out(json.loads(text)) or text
    except (ValueError, RecursionError):
        return text


# -- tables -----------------------------------------------------------------------------------
def _table(artifact: Artifact, text: str, ending: str) -> Preview | None:
    """None when it is no table after all: it is shown as text then."""
    delimiter = "\t" if ending == ".tsv" else _delimiter(text)
    try:
        rows = list(islice(csv.reader(io.StringIO(text), delimiter=delimiter), ROWS + 1))
    except csv.Error:
        return None
    if not rows or max(map(len, rows)) < 2:
        return None
    named = not all(map(_is_number, rows[0]))
    columns = max(map(len, rows))
    head = rows[0] if named else [str(number) for number in range(1, columns + 1)]
    shown = rows[1:] if named else rows[:ROWS]
    below = shown[0] if shown else []
    return Preview(
        "table",
        _counted(artifact, named, len(shown), columns),
        head=[
            Cell(_cut(name), column < len(below) and _is_number(below[column]))
            for column, name in enumerate(head[:COLUMNS])
        ],
        rows=[[_cell(text) for text in row[:COLUMNS]] for row in shown],
    )


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _cell(text: str) -> Cell:
    return Cell(_cut(text), _is_number(text))


def _is_number(text: str) -> bool:
    """By its beginning: the pattern's time grows with the square of a row of digits."""
    return bool(_NUMBER.fullmatch(text[:_LONGEST_NUMBER]))


def _cut(text: str) -> str:
    shown = unmasked(text[:_LONGEST_CELL])
    return f"{shown}…" if len(text) > _LONGEST_CELL else shown


def _counted(artifact: Artifact, named: bool, shown: int, columns: int) -> str:
    lines, whole = _count_lines(artifact)
    rows = max(lines - named, shown)
    said = (
        f"{'' if whole else 'More than '}{rows:,} row{'' if rows == 1 else 's'}, {columns} columns."
    )
    if rows > shown or columns > COLUMNS:
        said += f" The first {shown} rows and {min(columns, COLUMNS)} columns are shown."
    return said


def _count_lines(artifact: Artifact) -> tuple[int, bool]:
    """And whether all of it was looked at."""
    lines, left, last = 0, _COUNTED_BYTES, b"\n"
    with artifact_file(artifact).open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, 2**20))):
            lines += chunk.count(b"\n")
            left -= len(chunk)
            last = chunk[-1:]
        whole = not file.read(1)
    return lines + (last != b"\n"), whole
