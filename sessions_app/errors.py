"""What can be wrong with a request to this app; each states a fact a person can act on."""

from __future__ import annotations

import math
from datetime import timedelta


class SessionsError(Exception):
    """The request cannot be carried out."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.__doc__ or "")


class LinkInvalid(SessionsError):
    """This sign-in link was used before or is too old. Ask for a new one: manage.py sign_in_link."""


class TooManyTries(SessionsError):
    """Passwords were wrong too often. Come again later."""

    def __init__(self, wait: timedelta) -> None:
        self.seconds = max(1, math.ceil(wait.total_seconds()))
        minutes = math.ceil(self.seconds / 60)
        super().__init__(
            "Passwords were wrong too often. Come again in "
            f"{minutes} {'minute' if minutes == 1 else 'minutes'}."
        )


class ConfigInvalid(SessionsError):
    """The session's configuration does not fit its mode."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {problem}" for name, problem in fields.items()))
        self.fields = fields


class StateChanged(SessionsError):
    """Somebody else saved the session's state at the same moment. Read it again."""
