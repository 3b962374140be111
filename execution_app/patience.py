"""Waiting for a database that is away, without letting two engines run at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

import structlog
from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError, connection

from execution_app.errors import LeaseLost

P = ParamSpec("P")
T = TypeVar("T")
logger = structlog.get_logger(__name__)

# InternalError: how PostgreSQL's idle-in-transaction timeout arrives
AWAY = (OperationalError, InterfaceError, InternalError)
RETRY_SECONDS = 0.2
FREEZE_AFTER_LEASES = 2 / 3
DRAIN_PATIENCE_SECONDS = 8.0


class Freezable(Protocol):
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


class Patience:
    """Calls a service until the database answers.

    A supervisor that could not renew for two thirds of a lease cannot know whether another host
    has the run by now. It freezes its engine (SIGSTOP): nothing runs twice, nothing is lost. When
    the database is back, the fence tells whether it may go on. See docs/decisions/0020.
    """

    def __init__(self, engine: Freezable, is_draining: Callable[[], bool]) -> None:
        self._engine = engine
        self._is_draining = is_draining
        self._reached = time.monotonic()

    def __call__(self, service: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        away_since: float | None = None
        frozen = False
        while True:
            try:
                result = service(*args, **kwargs)
            except AWAY as error:
                now = time.monotonic()
                away_since = away_since or now
                frozen = self._wait(error, away_since, frozen=frozen)
            else:
                self._reached = time.monotonic()
                if frozen:
                    logger.info("engine_thawed")
                    self._engine.thaw()
                return result

    def _wait(self, error: Exception, away_since: float, *, frozen: bool) -> bool:
        """One pause; True when the engine is frozen. Raises LeaseLost when the host drains."""
        now = time.monotonic()
        connection.close()
        if self._is_draining() and now - away_since > DRAIN_PATIENCE_SECONDS:
            raise LeaseLost from error
        if not frozen and now - self._reached > settings.LEASE_SECONDS * FREEZE_AFTER_LEASES:
            logger.warning("engine_frozen", error=str(error)[:200])
            self._engine.freeze()
            frozen = True
        time.sleep(RETRY_SECONDS)
        return frozen
