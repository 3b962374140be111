"""One shape for every error of the API: `{"detail", "code"}`, some with `fields` (protocol.md 1).

Never a traceback: the log has it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import structlog
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils.decorators import sync_and_async_middleware
from ninja.errors import AuthenticationError, HttpError, ValidationError

from execution_app.api import NotMultipart
from execution_app.downloads import BytesMissing
from execution_app.errors import (
    SessionBusy,
    SessionDeleted,
    TaskInvalid,
    UploadInvalid,
    UploadTooLarge,
    WrongStatus,
)
from sessions_app.access import CsrfFailed, NotVisible
from sessions_app.errors import ConfigInvalid
from sessions_app.repetition import HEADER
from sessions_app.schemas import FieldsInvalid
from sessions_app.services.idempotency import KeyInvalid, KeyReused

logger = structlog.get_logger(__name__)

PREFIX = "/api/"
RETRY_SECONDS = "5"
_CODES = {
    400: "bad_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    500: "internal_error",
    503: "unavailable",
}
# what middlewares that ran before said, and what the answer means
_KEPT_HEADERS = {
    "Allow",
    "Content-Security-Policy",
    "Cross-Origin-Opener-Policy",
    "Referrer-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
}
_DETAILS = {404: "Not found.", 405: "This address does not take this method."}


def problem(
    status: int, code: str, detail: str, *, fields: dict[str, str] | None = None
) -> JsonResponse:
    """An error as every client of ours sees it."""
    body: dict[str, Any] = {"detail": detail, "code": code}
    if fields is not None:
        body["fields"] = fields
    response = JsonResponse(body, status=status)
    if status in {429, 503}:
        response["Retry-After"] = RETRY_SECONDS
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response


class NotJson(Exception):
    """The body is sent as something else: send it with Content-Type: application/json."""


Handler = Callable[[HttpRequest, Any], HttpResponse]


def _simple(status: int, code: str) -> Handler:
    """For an error whose message is written for people."""
    return lambda request, error: problem(status, code, str(error) or error.__doc__)


def _with_fields(error: Exception, fields: dict[str, str]) -> HttpResponse:
    return problem(422, "invalid", str(error), fields=fields)


def _not_found(request: HttpRequest, error: Exception) -> HttpResponse:
    return problem(404, "not_found", _DETAILS[404])


def _bytes_missing(request: HttpRequest, error: BytesMissing) -> HttpResponse:
    logger.error("blob_missing", file=str(error.__cause__))
    return _not_found(request, error)


def _not_valid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """ninja's list of problems as `fields`, named as the client named them."""
    fields = {_field_name(item["loc"]): item["msg"] for item in error.errors}
    detail = "; ".join(f"{name}: {message}" for name, message in fields.items())
    return problem(422, "invalid", detail[:2000], fields=fields)


def _field_name(loc: tuple[str | int, ...]) -> str:
    """("body", "body", "config", "a") is config.a: source and parameter are ours, not theirs."""
    skipped = 2 if loc[0] == "body" else 1
    return ".".join(str(part)[:200] for part in loc[skipped:]) or "body"


def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if isinstance(error.__cause__, NotJson):
        return problem(415, "unsupported_media_type", NotJson.__doc__ or "")
    if error.status_code == 400:
        return problem(400, "unparsable", f"The body is no JSON that we read: {error.__cause__}")
    return problem(error.status_code, _CODES.get(error.status_code, "error"), str(error))


def _no_caller(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return problem(401, "unauthenticated", "Sign in, or send Authorization: Bearer <token>.")


def _too_large(request: HttpRequest, error: Exception) -> HttpResponse:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 2**20
    return problem(413, "too_large", f"The body is larger than {limit} MB.")


def _unavailable(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.warning("database_unavailable", error=f"{type(error).__name__}: {error}")
    return problem(503, "unavailable", "The database does not answer right now. Try again.")


def _internal_error(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("request_failed", exc_info=error)
    return problem(500, "internal_error", "Something is wrong here. It has been logged.")


HANDLERS: dict[type[Exception], Handler] = {
    Exception: _internal_error,
    OperationalError: _unavailable,
    InterfaceError: _unavailable,
    Http404: _not_found,
    SessionDeleted: _not_found,
    NotVisible: _not_found,
    BytesMissing: _bytes_missing,
    AuthenticationError: _no_caller,
    CsrfFailed: _simple(403, "csrf_failed"),
    HttpError: _http_error,
    ValidationError: _not_valid,
    FieldsInvalid: lambda request, error: _with_fields(error, error.fields),
    ConfigInvalid: lambda request, error: _with_fields(error, error.fields),
    TaskInvalid: lambda request, error: _with_fields(error, {error.field: error.message}),
    UploadInvalid: lambda request, error: _with_fields(error, {"file": str(error)}),
    KeyInvalid: lambda request, error: _with_fields(error, {HEADER: str(error)}),
    KeyReused: _simple(422, "idempotency_key_reused"),
    SessionBusy: _simple(409, "session_busy"),
    WrongStatus: _simple(409, "wrong_status"),
    UploadTooLarge: _simple(413, "too_large"),
    RequestDataTooBig: _too_large,
    NotMultipart: _simple(415, "unsupported_media_type"),
    MultiPartParserError: _simple(400, "unparsable"),
    SuspiciousOperation: _simple(400, "bad_request"),
}


def server_error(request: HttpRequest) -> HttpResponse:
    """The page for a fault anywhere, also in a middleware. A database that is away is no fault:
    503, and when to come again."""
    if not isinstance(sys.exc_info()[1], (OperationalError, InterfaceError)):
        return HttpResponse(render_to_string("500.html"), status=500)
    page = HttpResponse(render_to_string("503.html"), status=503)
    page["Retry-After"] = RETRY_SECONDS
    return page


@sync_and_async_middleware
def json_errors(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware: errors that no operation of ours made (no such address, wrong method, bad
    host, a fault in a middleware) have the same shape below /api/."""
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> HttpResponseBase:
            return _shaped(request, await get_response(request))

        return asynchronous
    return lambda request: _shaped(request, get_response(request))


def _shaped(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if response.status_code < 400 or not request.path.startswith(PREFIX):
        return response
    if response.headers.get("Content-Type", "").startswith("application/json"):
        return response
    status = response.status_code
    detail = _DETAILS.get(status, response.reason_phrase)
    shaped = problem(status, _CODES.get(status, "error"), detail)
    for name in _KEPT_HEADERS & set(response.headers):
        shaped[name] = response.headers[name]
    return shaped
