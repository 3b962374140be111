"""What goes wrong between us and a model, in words for the person whose task it is.

A provider's own words are quoted where they help: cut, and without the key that it may echo.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx2
from pydantic_ai import exceptions as library

from cmbagent.errors import EngineError, Postponed
from cmbagent.wire import ModelSpec

MAX_QUOTED = 300  # characters
_MAX_SEARCHED = 20_000  # of a provider's words: what comes later is never quoted
HIDDEN = "[key]"

_AGAIN = "It was tried again by itself, in vain. Retry the run later, or choose another model."


class ModelFailure(EngineError):
    """`fact` and `remedy` say {model} where its name belongs."""

    fact: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(self, model: str, quoted: str = "") -> None:
        said = f' It said: "{quoted}"' if quoted else ""
        super().__init__(f"{self.fact.format(model=model)}{said}", self.remedy.format(model=model))


class ModelRateLimited(ModelFailure):
    error_type = "model_rate_limited"
    retryable = True
    fact = "The provider of {model} allows no more requests at the moment."
    remedy = _AGAIN


class ModelOverloaded(ModelFailure):
    error_type = "model_overloaded"
    retryable = True
    fact = "The provider of {model} is overloaded or being serviced."
    remedy = _AGAIN


class ModelServerError(ModelFailure):
    error_type = "model_server_error"
    retryable = True
    fact = "The provider of {model} has a fault of its own."
    remedy = _AGAIN


class ModelTimeout(ModelFailure):
    error_type = "model_timeout"
    retryable = True
    fact = "{model} was silent for longer than it is waited for."
    remedy = f"{_AGAIN} The operator sets the time by CMBAGENT_MODEL_TIMEOUT."


class ModelTalksOn(ModelFailure):
    error_type = "model_timeout"
    retryable = True
    fact = "{model} talked without coming to an end."
    remedy = "Retry the run, or choose another model."


class ModelUnreachable(ModelFailure):
    error_type = "model_unreachable"
    retryable = True
    fact = "{model} cannot be reached, or the connection broke during its answer."
    remedy = "Ask the operator whether its server runs and can be reached, then retry the run."


class ModelQuotaExceeded(ModelFailure):
    error_type = "model_quota_exceeded"
    fact = "The account that pays for {model} has used up what it may."
    remedy = "Ask the operator to raise its limit, then retry the run; or choose another model."


class ModelUnauthorized(ModelFailure):
    error_type = "model_unauthorized"
    fact = "The provider of {model} does not accept the server's key."
    remedy = "Ask the operator to mend the key, then retry the run; or choose another model."


class ModelNotFound(ModelFailure):
    error_type = "model_not_found"
    fact = "The provider knows no model {model}."
    remedy = (
        "Correct the name in the session's configuration, or ask the operator to correct "
        "CMBAGENT_MODEL or the provider's address."
    )


class ContextTooLong(ModelFailure):
    error_type = "context_too_long"
    fact = "The task and what was done for it are more than {model} can read at once."
    remedy = "Ask for less at once, have code print less, or choose another model."


class ModelRequestRejected(ModelFailure):
    """The provider understood the request and does not accept it."""

    error_type = "model_request_rejected"
    fact = "The provider of {model} does not accept what it was asked."
    remedy = "Choose another model (some can call no tools), or put the task into other words."


class ModelRefused(ModelFailure):
    error_type = "model_refused"
    fact = "{model}, or a filter of its provider, refuses to answer this."
    remedy = "Put the task into other words, or choose another model."


class OutputTooLong(ModelFailure):
    error_type = "output_too_long"
    fact = "{model} reached the longest answer it may give before it was finished."
    remedy = "Ask for less at once, or choose another model."


class ModelAnswerInvalid(ModelFailure):
    """What came back is no answer that an agent could use."""

    error_type = "model_answer_invalid"
    retryable = True
    fact = "What came back from {model} is no answer that an agent can use."
    remedy = (
        "Retry the run. If it happens again choose another model (some can call no tools), or ask "
        "the operator whether the address leads to one (it usually ends in /v1)."
    )


# The first that fits counts: a class stands before the one it is derived from.
_PASSING: list[tuple[type[Exception], type[ModelFailure]]] = [
    (library.ModelRateLimitError, ModelRateLimited),
    (library.ModelUnavailableError, ModelOverloaded),
    (library.ModelServerError, ModelServerError),
    (library.ModelTimeoutError, ModelTimeout),
    (library.ModelConnectionError, ModelUnreachable),
    (httpx2.TimeoutException, ModelTimeout),
    (httpx2.TransportError, ModelUnreachable),
]
_LASTING: list[tuple[type[Exception], type[ModelFailure]]] = [
    (library.ModelQuotaExceededError, ModelQuotaExceeded),
    (library.ModelContextWindowExceededError, ContextTooLong),
    (library.ModelAuthenticationError, ModelUnauthorized),
    (library.ModelNotFoundError, ModelNotFound),
    (library.ModelRequestRejectedError, ModelRequestRejected),
    (library.ModelRequestTimeout, ModelTalksOn),
    (library.ModelAPIError, ModelAnswerInvalid),
    (library.ContentFilterError, ModelRefused),
    (library.OutputTokenLimitExceeded, OutputTooLong),
    (library.UnexpectedModelBehavior, ModelAnswerInvalid),
]


def translate(error: Exception, spec: ModelSpec | None = None) -> EngineError | Postponed | None:
    """What a person is told instead of `error`; Postponed for what passes: the run goes on by
    itself when it is over. None for what no model did: it is a defect of ours. `spec` is of the
    model that was asked; its key is kept out of every text."""
    if isinstance(error, EngineError | Postponed):
        return error
    if failure := _first(_PASSING, error):
        return Postponed(_told(failure, error, spec), getattr(error, "retry_after", None))
    if failure := _first(_LASTING, error):
        return _told(failure, error, spec)
    return None


@contextlib.contextmanager
def translated(spec: ModelSpec) -> Iterator[None]:
    """What goes wrong inside leaves as what a person is told."""
    try:
        yield
    except (library.AgentRunError, httpx2.TransportError) as error:
        told = translate(error, spec)
        if told is None:
            raise
        raise told from error


def _first(
    cases: list[tuple[type[Exception], type[ModelFailure]]], error: Exception
) -> type[ModelFailure] | None:
    return next((failure for kind, failure in cases if isinstance(error, kind)), None)


def _told(failure: type[ModelFailure], error: Exception, spec: ModelSpec | None) -> ModelFailure:
    name = spec["name"] if spec else str(getattr(error, "model_name", "The model"))
    words = _words_of(getattr(error, "body", None))[:_MAX_SEARCHED]
    return failure(name, _cut(redacted(words, spec["api_key"] if spec else None)))


def _words_of(body: Any) -> str:
    """The sentence in an error's body, whichever provider sent it; empty for a page of HTML and
    for what has no sentence."""
    match body:
        case {"error": inner} if inner:
            return _words_of(inner)
        case {"message": inner} | {"detail": inner} if inner:
            return _words_of(inner)
        case [inner, *_]:
            return _words_of(inner)
        case str() if body.lstrip().startswith(("{", "[")):
            return _words_of_json(body)
        case str() if not body.lstrip().startswith("<"):
            return body
    return ""


def _words_of_json(text: str) -> str:
    try:
        return _words_of(json.loads(text))
    except (ValueError, RecursionError):
        return ""


def _cut(text: str) -> str:
    """On one line, and not for ever; the redaction came before: half a key is no whole one."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_QUOTED else f"{line[:MAX_QUOTED]}…"


# -- what a provider may echo -----------------------------------------------------------------
_WORD = re.compile(r"[^\s\"'`<>(),;=]+")
_KEYLIKE = re.compile(r"(sk-|AIza|gsk_|xai-)[\w.-]{6,}|\*{3,}", re.ASCII)
_GAP = re.compile(r"\*{2,}|\.{2,}|…|•+|[xX]{4,}")  # stands for the middle of a key
_RUN = 8  # so many characters of a key in a row give it away
_END = 4  # providers show so many at each end


def redacted(text: str, key: str | None) -> str:
    """Without the key, whole or partly masked, and without what looks like any other key."""
    if key:
        text = text.replace(key, HIDDEN)
    parts = _parts_of(key or "")
    return _WORD.sub(
        lambda word: HIDDEN if _gives_away(word[0], key or "", parts) else word[0], text
    )


def _parts_of(key: str) -> set[str]:
    return {key[at : at + _RUN] for at in range(len(key) - _RUN + 1)}


def _gives_away(word: str, key: str, parts: set[str]) -> bool:
    if _KEYLIKE.search(word):
        return True
    if len(key) < 2 * _RUN:
        return False  # too short to be told from words; the whole of it is gone already
    ends = word.startswith(key[:_END]) or word.rstrip(".:").endswith(key[-_END:])
    return bool(ends and _GAP.search(word)) or any(part in word for part in parts)
