"""One small question to a connected model, from a page: bounded in time, number and money.

It is asked in a process of its own. A model's library costs a second and sixty megabytes, empties
the environment it is imported into, and can hang: none of that may happen to a web process. The
key goes there through a pipe, as an engine's does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import User

from cmbagent.models.choosing import NO_MODEL
from execution_app.engine_process import engine_environment, proxies
from execution_app.errors import ExecutionError
from execution_app.model_choice import models_for

logger = structlog.get_logger(__name__)

PATIENCE_SECONDS = 20.0
A_MINUTE = 60.0
TRIALS_A_MINUTE = 3  # of one person, in each web process: whoever may start runs may spend that
_AT_ONCE = threading.BoundedSemaphore(2)
_recent: defaultdict[int, deque[float]] = defaultdict(deque)
_recent_lock = threading.Lock()


class TrialRefused(ExecutionError):
    """It was asked too often. Wait a minute."""


class TrialFailed(ExecutionError):
    """The model did not answer. `error_type` is that of a run's failure."""

    def __init__(self, error_type: str, message: str, suggestion: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.suggestion = suggestion


@dataclass(frozen=True)
class Trial:
    """A model's answer. `cost_usd` None: nobody knows the price."""

    model: str
    seconds: float
    tokens: int
    cost_usd: float | None


def try_model(role: str, *, by: User) -> Trial | None:
    """What the model of a role took to answer; None when it has none. Raises ConfigInvalid,
    TrialRefused, TrialFailed."""
    spec = models_for({})[role]
    if spec["provider"] == NO_MODEL:
        return None
    _count(by)
    if not _AT_ONCE.acquire(blocking=False):
        raise TrialRefused("Others are asking just now. Try again in a moment.")
    try:
        began = time.monotonic()
        said = _ask({**spec})
    finally:
        _AT_ONCE.release()
    if "error_type" in said:
        raise TrialFailed(said["error_type"], said["message"], said["suggestion"])
    tokens = said["input_tokens"] + said["output_tokens"]
    return Trial(said["model"], time.monotonic() - began, tokens, said["cost_usd"])


def _count(user: User) -> None:
    now = time.monotonic()
    with _recent_lock:
        times = _recent[user.pk]
        while times and times[0] <= now - A_MINUTE:
            times.popleft()
        if len(times) >= TRIALS_A_MINUTE:
            raise TrialRefused
        times.append(now)


def _ask(spec: dict[str, Any]) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-s", "-m", "cmbagent.models.trial"],
            input=json.dumps(spec),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a library's trace may hold the key
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
            cwd=settings.BASE_DIR,
            env={**engine_environment(Path("/nonexistent")), **proxies()},
        )
        said: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return _failure(
            "model_timeout",
            f"{spec['name']} did not answer within {PATIENCE_SECONDS:g} s.",
            "Is its server there, and awake? A run waits longer than this page.",
        )
    except (OSError, ValueError) as error:
        logger.warning("model_trial_failed", error=type(error).__name__)
        return _failure("model_unavailable", "The question could not be asked.", "Try again.")
    return said


def _failure(error_type: str, message: str, suggestion: str) -> dict[str, Any]:
    return {"error_type": error_type, "message": message, "suggestion": suggestion}
