"""The models' keys, kept out of all that an engine says: its messages and its output.

An engine has no reason to tell one; a provider's error, a traceback or a library's warning may.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from cmbagent import wire

MIN_SECRET = 12  # characters; "EMPTY" and "ollama" are what people give to servers without keys
HIDDEN = b"[hidden]"
TELLS_NOTHING = 3  # bytes; many keys begin with the same ones


class Secrets:
    """The models' keys, as they would be printed or stand in a line of JSON."""

    def __init__(self, models: Mapping[str, wire.ModelSpec]) -> None:
        keys = {spec["api_key"] for spec in models.values()}
        written = {form for key in keys if key and len(key) >= MIN_SECRET for form in _forms(key)}
        self._secrets = sorted(written, key=len, reverse=True)  # one may be another's beginning
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets)) or b"(?!)")

    def hide(self, line: bytes) -> bytes:
        """The line without them: a provider's error may quote the request's header."""
        return self._pattern.sub(HIDDEN, line)

    def found(self, data: bytes) -> Iterator[tuple[int, int]]:
        return (match.span() for match in self._pattern.finditer(data))

    def unfinished(self, data: bytes) -> int:
        """Where the tail begins that may become a key when more arrives; the length without one."""
        longest = len(self._secrets[0]) if self._secrets else 1
        first = max(0, len(data) - longest + 1)
        whole = [(begin, end) for begin, end in self.found(data) if end > first]
        for at in range(first, len(data)):
            is_inside = any(begin < at < end for begin, end in whole)
            if not is_inside and self._is_beginning(data[at:]):
                return at
        return len(data)

    def _is_beginning(self, tail: bytes) -> bool:
        return any(len(s) > len(tail) and s.startswith(tail) for s in self._secrets)


def _forms(key: str) -> set[bytes]:
    return {key.encode(errors="backslashreplace"), json.dumps(key)[1:-1].encode()}


class Veil:
    """The bytes of one pipe without the keys, however reads cut them. Nothing is held back but a
    tail that a key begins with, and of that what anybody may know is shown at once."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._tail = b""  # what may become a key
        self._shown = 0  # how many bytes of it were shown already

    def feed(self, data: bytes) -> bytes:
        data, at = self._tail + data, self._shown
        tail = self._secrets.unfinished(data)
        pieces = []
        for begin, end in self._secrets.found(data[:tail]):
            pieces += [data[at:begin], HIDDEN]
            at = end
        shown = min(tail + TELLS_NOTHING, len(data))
        pieces.append(data[at:shown])
        self._tail, self._shown = data[tail:], shown - tail
        return b"".join(pieces)

    def rest(self) -> bytes:
        """The pipe ended: nobody learns more from half a key than that there was one."""
        is_held = len(self._tail) > self._shown
        self._tail, self._shown = b"", 0
        return HIDDEN if is_held else b""
