"""What can be wrong with a request to this app, and what a supervisor may learn."""

from __future__ import annotations

from cmbagent.wire import Failure


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


class JournalDamaged(ExecutionError):
    """What a finished call returned can no longer be read from the server's files."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def failure(self) -> Failure:
        """For the people whose run cannot go on."""
        return {
            "error_type": "journal_damaged",
            "message": f"What {self.key} returned can no longer be read from the server's files.",
            "suggestion": "Tell the operator. Retry: the run goes on from there anew, and what "
            "came before it is kept.",
            "retryable": True,
            "key": self.key,
        }


class BuildChanged(ExecutionError):
    """The engine's source is no longer what this server was started with: restart the server."""

    def failure(self) -> Failure:
        """For the people whose run must wait."""
        return {
            "error_type": "server_upgraded",
            "message": "The server was upgraded while it runs; it works again when it has been "
            "restarted.",
            "suggestion": "Tell the operator to restart it. Then retry.",
            "retryable": True,
        }


class LeaseLost(Exception):
    """Another attempt has this run, or it is no longer running: what we hold is worthless."""


class EntryRefused(LeaseLost):
    """The database refused a finished call as data. The run has failed of it, and was let go."""
