"""Asks a model one small question, as a run would, and says what came of it."""

from __future__ import annotations

import asyncio
import os
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError
from django.core.management.base import BaseCommand

from cmbagent.errors import EngineError
from cmbagent.models.choosing import NO_MODEL, ROLES
from cmbagent.models.proxies import proxies_of
from cmbagent.models.trial import ask_once
from cmbagent.wire import ModelSpec, Usage
from execution_app.model_choice import models_for
from sessions_app.errors import ConfigInvalid


class Command(BaseCommand):
    help = "Ask the model of a role one small question (it costs what the provider asks for it)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("role", nargs="?", choices=ROLES, default=ROLES[0])

    def handle(self, *, role: str, **_: Any) -> None:
        spec = _spec_of(role)
        os.environ.update(proxies_of(os.environ))
        began = time.monotonic()
        try:
            usage = asyncio.run(ask_once(spec))
        except EngineError as error:
            raise CommandError(f"{error.error_type}: {error.message} {error.suggestion}") from None
        self.stdout.write(_sentence(role, usage, time.monotonic() - began))


def _spec_of(role: str) -> ModelSpec:
    try:
        spec = models_for({})[role]
    except ConfigInvalid as error:
        raise CommandError(str(error)) from None
    if spec["provider"] == NO_MODEL:
        raise CommandError(f"The {role} has no model. Set CMBAGENT_MODEL to connect one.")
    return spec


def _sentence(role: str, usage: Usage, seconds: float) -> str:
    tokens = usage["input_tokens"] + usage["output_tokens"]
    cost = usage["cost_usd"]
    price = "nobody knows what that costs" if cost is None else f"that costs {cost:.6f} USD"
    return f"{usage['model']} answers the {role} in {seconds:.1f} s; {tokens} tokens, {price}."
