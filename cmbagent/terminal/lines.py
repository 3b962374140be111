"""Numbers for what executed code prints, as in the server's log."""

from __future__ import annotations

from typing import Any


class LineNumbers:
    """Lines are numbered over both streams, in the order of their beginning."""

    def __init__(self) -> None:
        self._next_line = 1
        self._open: dict[str, int] = {}  # the line that a stream has not ended yet

    def numbered(self, stream: str, text: str) -> list[dict[str, Any]]:
        """The data of the `output` events for a text: one, or two."""
        return [self._event(stream, part) for part in self._parts(stream, text)]

    def _parts(self, stream: str, text: str) -> list[str]:
        """What ends an open line is an event of its own when other lines began meanwhile:
        an event's lines are numbered one after the other."""
        open_line, end = self._open.get(stream), text.find("\n") + 1
        if open_line is None or open_line + 1 == self._next_line or not end:
            return [text]
        return [part for part in (text[:end], text[end:]) if part]

    def _event(self, stream: str, text: str) -> dict[str, Any]:
        open_line = self._open.pop(stream, None)
        first = self._next_line if open_line is None else open_line
        last = first + text.count("\n")
        is_ended = text.endswith("\n")
        self._next_line = max(self._next_line, last if is_ended else last + 1)
        if not is_ended:
            self._open[stream] = last
        return {"stream": stream, "line": first, "text": text, "cont": open_line is not None}
