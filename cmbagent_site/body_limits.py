"""daphne takes the whole body of a request, of any size and from anyone, before Django sees its
first line. Here what is too large is refused by its headers, or cut where it passes the bound."""

from __future__ import annotations

import re
from typing import Any

import structlog
from daphne.http_protocol import WebRequest
from django.conf import settings

from cmbagent_site.problems import PREFIX, problem

logger = structlog.get_logger(__name__)

FORM_BYTES = 64 * 2**10  # what a form adds to the file in it
# A reader that is still sending would never see an answer whose connection is gone already.
LINGER_SECONDS = 5
_UPLOAD = re.compile(
    rb"/(?:api/sessions/[0-9a-fA-F-]+/files|sessions/(?:new|[0-9a-fA-F-]+/files)/)(?:\?|$)"
)

_got_length = WebRequest.gotLength
_take_chunk = WebRequest.handleContentChunk


def begin_within_bounds(request: Any, length: int | None) -> None:
    """In place of daphne's own: the headers are complete; no length means a chunked body."""
    _got_length(request, length)
    request.bytes_left = bound_of(request)
    if length is not None and length > request.bytes_left:
        _refuse(request)


def take_within_bounds(request: Any, chunk: bytes) -> None:
    """In place of daphne's own: the next part of the body."""
    request.bytes_left -= len(chunk)
    if request.bytes_left >= 0:
        _take_chunk(request, chunk)
    elif not request.content.closed:
        _refuse(request)


def bound_of(request: Any) -> int:
    """How large its body may be. A file needs a way in, which Django looks at later."""
    is_upload = request.channel._command == b"POST" and _UPLOAD.match(request.channel._path)
    if is_upload and _has_credentials(request):
        return int(settings.MAX_UPLOAD_BYTES) + FORM_BYTES
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def _has_credentials(request: Any) -> bool:
    cookie = settings.SESSION_COOKIE_NAME.encode()
    return request.requestHeaders.hasHeader(b"Authorization") or cookie in request.received_cookies


def _refuse(request: Any) -> None:
    """Answer 413; what still comes is thrown away until the client, or our patience, ends."""
    channel, limit = request.channel, bound_of(request)
    logger.info("body_refused", path=channel._path.decode(errors="replace"), limit=limit)
    request.bytes_left = -1
    request.content.close()
    request.requestHeaders.removeHeader(b"Expect")  # no "100 Continue" after this answer
    request.requestReceived = channel.dataReceived = lambda *_: None
    channel.transport.write(_answer(channel._path, f"The body is larger than {limit >> 20} MB."))
    channel.setTimeout(LINGER_SECONDS)


def _answer(path: bytes, detail: str) -> bytes:
    if path.startswith(PREFIX.encode()):
        kind, body = "application/json", problem(413, "too_large", detail).content
    else:
        kind, body = "text/plain; charset=utf-8", detail.encode()
    head = (
        "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def install() -> None:
    """Before daphne serves its first request."""
    WebRequest.gotLength = begin_within_bounds
    WebRequest.handleContentChunk = take_within_bounds
