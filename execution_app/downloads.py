"""Bytes on their way out: streamed, typed so that no browser runs them, never all in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import IO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

from execution_app.models import Artifact
from execution_app.services import artifact_file

CHUNK = 256 * 1024
# Shown in the page; everything else is handed to the browser's downloads.
SHOWN = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
PDF = "application/pdf"
# Types that no program opens as something that runs. The rest goes out as plain bytes. An SVG is
# one only as an <img>, where browsers run nothing; opened, it is a download.
HARMLESS = SHOWN | {"text/plain", "text/csv", "application/json", "image/svg+xml", PDF}
NOTHING_RUNS = "default-src 'none'; sandbox"
# A browser's own viewer refuses to work in a sandbox; it needs its styles and itself.
VIEWED = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
ASKED_EACH_TIME = "private, no-cache"  # kept, but asked for each time: rights change
DIGITS = 12  # of the digest in `?v=`: such an address never holds anything else
ONE_DAY = "private, max-age=86400, immutable"  # what was seen can be seen again without asking


class BytesMissing(Exception):
    """The file's row is there, its bytes are not: somebody removed them from the data folder."""


def file_response(request: HttpRequest, artifact: Artifact) -> HttpResponseBase:
    """The bytes of an artifact, by digest. Raises BytesMissing."""
    etag = f'"{artifact.sha256}"'
    if request.headers.get("If-None-Match") == etag:
        return _guarded(HttpResponse(status=304), etag, cached=_caching(request, artifact))
    try:
        file = artifact_file(artifact).open("rb")
    except FileNotFoundError as error:
        raise BytesMissing from error
    if request.method == "HEAD":
        file.close()
        response: HttpResponseBase = HttpResponse()
    else:
        response = streamed(request, _chunks(file))
    mime = artifact.mime if artifact.mime in HARMLESS else "application/octet-stream"
    response["Content-Type"] = mime
    response["Content-Length"] = str(artifact.size)
    name = artifact.path.rpartition("/")[2]
    disposition = content_disposition_header(artifact.mime not in {*SHOWN, PDF}, name)
    response["Content-Disposition"] = disposition or "inline"
    policy = VIEWED if artifact.mime == PDF else NOTHING_RUNS
    return _guarded(response, etag, policy, cached=_caching(request, artifact))


def _caching(request: HttpRequest, artifact: Artifact) -> str:
    version = request.GET.get("v", "")
    named = len(version) >= DIGITS and artifact.sha256.startswith(version)
    return ONE_DAY if named else ASKED_EACH_TIME


def text_response(request: HttpRequest, chunks: Iterator[bytes]) -> HttpResponseBase:
    response = HttpResponse() if request.method == "HEAD" else streamed(request, chunks)
    response["Content-Type"] = "text/plain; charset=utf-8"
    return _guarded(response)


def streamed(request: HttpRequest, chunks: Iterator[bytes]) -> StreamingHttpResponse:
    """One chunk in memory at a time, under WSGI and ASGI alike.

    Under ASGI Django would first make a list of a plain iterator: a whole file in memory.
    """
    under_asgi = isinstance(request, ASGIRequest)
    return StreamingHttpResponse(_in_thread(chunks) if under_asgi else chunks)


async def _in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    read = sync_to_async(lambda: next(chunks, b""))
    while chunk := await read():
        yield chunk


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


def _guarded(
    response: HttpResponseBase,
    etag: str = "",
    policy: str = NOTHING_RUNS,
    cached: str = ASKED_EACH_TIME,
) -> HttpResponseBase:
    response["X-Content-Type-Options"] = "nosniff"
    response["X-Frame-Options"] = "DENY"
    response["Content-Security-Policy"] = policy
    response["Cross-Origin-Resource-Policy"] = "same-origin"
    response["Cache-Control"] = cached
    if etag:
        response["ETag"] = etag
    return response
