"""What was rendered stays in memory: an event never changes, and everybody sees the same of it."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Hashable

MAX_BYTES = 32 * 2**20  # of text, in each process
_OVERHEAD = 500  # bytes of key, entry and object


class TextCache:
    """Texts by key, the least recently used dropped first. Any thread may ask and put."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._texts: OrderedDict[Hashable, str] = OrderedDict()
        self._lock = threading.Lock()
        self.size = 0

    def get(self, key: Hashable) -> str | None:
        with self._lock:
            text = self._texts.get(key)
            if text is not None:
                self._texts.move_to_end(key)
            return text

    def put(self, key: Hashable, text: str) -> None:
        size = _size(text)
        if size > self._max_bytes // 8:
            return  # it would push out hundreds of others
        with self._lock:
            if (before := self._texts.pop(key, None)) is not None:
                self.size -= _size(before)
            self._texts[key] = text
            self.size += size
            while self.size > self._max_bytes:
                _, dropped = self._texts.popitem(last=False)
                self.size -= _size(dropped)

    def clear(self) -> None:
        with self._lock:
            self._texts.clear()
            self.size = 0


def _size(text: str) -> int:
    return sys.getsizeof(text) + _OVERHEAD
