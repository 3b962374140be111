"""How much is taken in of what a model's server sends: it may send without end, or send little
that becomes much when it is unpacked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.models import Model

MAX_ANSWER_BYTES = 128 * 2**20  # as it is sent: each token of a stream in some 400 bytes
MAX_ERROR_BYTES = 2**20  # what is quoted of it is short
_PLAIN = {"", "identity"}


def bound(model: Model) -> None:
    """From now on its client takes in so much of each response. More of an answer raises
    UnexpectedModelBehavior; of an error, the rest is left where it is."""
    client = getattr(model.provider, "_own_http_client", None)
    assert isinstance(client, httpx2.AsyncClient)  # a hook keeps the proxies; a transport does not
    client.event_hooks["request"].append(_ask_for_plain)
    client.event_hooks["response"].append(_bound_response)


async def _ask_for_plain(request: httpx2.Request) -> None:
    request.headers["Accept-Encoding"] = "identity"


async def _bound_response(response: httpx2.Response) -> None:
    is_packed = response.headers.pop("Content-Encoding", "").strip().lower() not in _PLAIN
    limit = MAX_ERROR_BYTES if response.is_error else MAX_ANSWER_BYTES
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(
        response.stream, 0 if is_packed else limit, may_end=response.is_error
    )


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, limit: int, *, may_end: bool) -> None:
        self._stream, self._left, self._may_end = stream, limit, may_end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            if len(chunk) > self._left and not self._may_end:
                raise UnexpectedModelBehavior("the answer is packed, or never ends")
            yield chunk[: self._left]
            self._left -= len(chunk)
            if self._left <= 0 and self._may_end:
                return

    async def aclose(self) -> None:
        await self._stream.aclose()
