"""The REST API: the routers of the apps, who may call them, and how a body is read."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja import NinjaAPI
from ninja.parser import Parser

from cmbagent_site.health import router as health
from cmbagent_site.problems import HANDLERS, NotJson
from execution_app.api import router as runs
from sessions_app.access import BearerToken, SignedInCookie
from sessions_app.api import router as sessions
from sessions_app.repetition import answered_once

MAX_DEPTH = 32  # of nested JSON; ours has five levels


class StrictParser(Parser):
    """JSON as its standard says: no NaN, and not nested without end."""

    def parse_body(self, request: HttpRequest) -> Any:
        if request.content_type != "application/json":
            raise NotJson
        value = json.loads(request.body, parse_constant=_refuse_constant)
        _check_depth(value)
        return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _check_depth(value: Any) -> None:
    """Iterative: what is checked is whether recursion would be safe."""
    layer, depth = [value], 0
    while layer:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        layer = [child for item in layer for child in _children(item)]


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def make_api() -> NinjaAPI:
    made = NinjaAPI(
        title="CMBAgent",
        version=settings.VERSION,
        description="Sessions, runs, their log and their files.",
        urls_namespace="api",
        auth=[BearerToken(), SignedInCookie()],
        parser=StrictParser(),
    )
    made.add_decorator(answered_once)
    made.add_router("/health", health, auth=None)
    made.add_router("/sessions", sessions)
    made.add_router("", runs)
    for error, handler in HANDLERS.items():
        made.add_exception_handler(error, handler)
    return made


api = make_api()
