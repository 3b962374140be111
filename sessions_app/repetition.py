"""`Idempotency-Key` over HTTP: the same POST twice gives the first answer again."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

from django.http import HttpResponse
from ninja.responses import Status

from sessions_app.access import ApiRequest
from sessions_app.services import Answer, Ask, answer_once, check_key

HEADER = "Idempotency-Key"
Operation = Callable[..., Any]


def ask_of(request: ApiRequest, body_digest: str) -> Ask | None:
    """The request as its sender identifies it; None without a key. Raises KeyInvalid."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    check_key(key)
    return Ask(
        user=request.user,
        key=key,
        method=request.method or "",
        path=request.path,
        body_digest=body_digest,
    )


def answer_of(status: Status[Any]) -> Answer:
    """What an operation returned, as it goes into the key's row."""
    return Answer(status.status_code, status.value.model_dump_json())


def response_of(answer: Answer) -> HttpResponse:
    return HttpResponse(
        answer.content, status=answer.status_code, content_type="application/json; charset=utf-8"
    )


def answers_by_itself(operation: Operation) -> Operation:
    """Marks an operation that has slow work to do before its transaction (an upload)."""
    operation.answers_by_itself = True  # type: ignore[attr-defined]
    return operation


def answered_once(operation: Operation) -> Operation:
    """Makes every POST repeatable; the site's API puts it around each operation."""
    if getattr(operation, "answers_by_itself", False):
        return operation

    @functools.wraps(operation)
    def repeatable(request: ApiRequest, **values: Any) -> Any:
        if request.method != "POST":
            return operation(request, **values)
        ask = ask_of(request, hashlib.sha256(request.body).hexdigest())
        if ask is None:
            return operation(request, **values)
        return response_of(answer_once(ask, lambda: answer_of(operation(request, **values))))

    return repeatable
