"""What can be wrong with a request to this app, and what a supervisor may learn."""

from __future__ import annotations


class ExecutionError(Exception):
    """The request cannot be carried out."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.__doc__ or "")


class SessionBusy(ExecutionError):
    """A run of this session is live. Wait for it, stop it, or send on_busy: "interrupt"."""


class WrongStatus(ExecutionError):
    """The run is not in a status in which this can be done."""


class SessionDeleted(ExecutionError):
    """The session was deleted at the same moment."""


class TaskInvalid(ExecutionError):
    """The task cannot be accepted."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class UploadInvalid(ExecutionError):
    """The file cannot be accepted."""


class UploadTooLarge(UploadInvalid):
    """The file is larger than 200 MB. Put it into one of the operator's data folders instead."""


class LeaseLost(Exception):
    """Another attempt has this run, or it is no longer running: what we hold is worthless."""
