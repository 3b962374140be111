"""A program that talks to the API with a token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.test import Client

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Response


class ApiClient:
    """JSON in, Django's test response out; `body` may be bytes, to send what is no JSON."""

    def __init__(self, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = Client(headers=headers, raise_request_exception=False)

    def get(self, path: str, query: dict[str, Any] | None = None, **headers: str) -> Response:
        return self.client.get(path, query, headers=_named(headers))

    def head(self, path: str, **headers: str) -> Response:
        return self.client.head(path, headers=_named(headers))

    def delete(self, path: str) -> Response:
        return self.client.delete(path)

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        **headers: str,
    ) -> Response:
        """`idempotency_key="k"` becomes the header Idempotency-Key."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body)
        return self.client.post(path, data, content_type=content_type, headers=_named(headers))

    def upload(self, path: str, fields: dict[str, Any], **headers: str) -> Response:
        return self.client.post(path, fields, headers=_named(headers))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def answer(response: Response, status: int = 200) -> Any:
    """The JSON of a response that must have this status."""
    text = response.content.decode()
    assert response.status_code == status, f"{response.status_code}: {text[:2000]}"
    return json.loads(text)


def refusal(response: Response, status: int, code: str) -> dict[str, Any]:
    """The body of an error in the one shape that all errors have."""
    body: dict[str, Any] = answer(response, status)
    assert body["code"] == code
    assert isinstance(body["detail"], str)
    assert body["detail"]
    return body
