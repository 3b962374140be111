"""How large a picture is, from the first bytes of its file: so that a page leaves room for it.

The bytes are a run's: whatever they say, no more than HEAD of them is read, and nothing is decoded.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path

HEAD = 64 * 1024
_LARGEST = 100_000  # pixels of a side; a larger one is a lie or no use
Size = tuple[int, int]
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


@lru_cache(maxsize=4096)  # by digest: what a path holds there never changes
def picture_size(blob: Path) -> Size | None:
    """Width and height in pixels; None if its file does not say."""
    try:
        with blob.open("rb") as file:
            return size_of(file.read(HEAD))
    except OSError:
        return None


def size_of(head: bytes) -> Size | None:
    for read in (_png, _gif, _jpeg, _webp):
        try:
            found = read(head)
        except (struct.error, IndexError):
            continue
        if found is not None and all(0 < side <= _LARGEST for side in found):
            return found
    return None


def _png(head: bytes) -> Size | None:
    if head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", head, 16)
    return width, height


def _gif(head: bytes) -> Size | None:
    if head[:6] not in {b"GIF87a", b"GIF89a"}:
        return None
    width, height = struct.unpack_from("<HH", head, 6)
    return width, height


def _jpeg(head: bytes) -> Size | None:
    if head[:2] != b"\xff\xd8":
        return None
    at = 2
    while head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", head, at + 5)
            return width, height
        elif marker in _JPEG_WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + max(2, struct.unpack_from(">H", head, at + 2)[0])
    return None


def _webp(head: bytes) -> Size | None:
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", head, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
