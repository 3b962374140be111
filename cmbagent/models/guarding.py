"""What a model's library stumbles over in an answer is the answer's fault, not a defect of ours.

A server that answers with the right status and the wrong shape meets code that expects another:
an AttributeError deep inside the library. It becomes the failure that it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import httpx2
from pydantic_ai import ModelMessage, ModelResponse, RunContext
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

_STUMBLES = (
    AttributeError,
    TypeError,
    LookupError,
    ValueError,
    AssertionError,
    httpx2.StreamError,  # Mistral's reads a redirect's body, which nobody took
    httpx2.DecodingError,
)


class Guarded(WrapperModel):
    """Raises UnexpectedModelBehavior for what the library could not read."""

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        with _stumbling_told():
            return await super().request(messages, model_settings, model_request_parameters)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        with _stumbling_told():
            async with self.wrapped.request_stream(
                messages, model_settings, model_request_parameters, run_context
            ) as response:
                yield response


@contextlib.contextmanager
def _stumbling_told() -> Iterator[None]:
    try:
        yield
    except _STUMBLES as error:
        if _is_ours(error.__traceback__):
            raise
        raise UnexpectedModelBehavior(f"unreadable: {type(error).__name__}") from error


def _is_ours(trace: TracebackType | None) -> bool:
    """Whether code of ours is nearer to where it was raised than the library's: ours takes in the
    events of an answer, and those are read by the library again."""
    ours = False
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if module.startswith("pydantic_ai.") or module == __name__:
            ours = False
        elif module.startswith("cmbagent."):
            ours = True
        trace = trace.tb_next
    return ours
