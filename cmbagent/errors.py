"""What can go wrong in a run in a way that a person can understand and mend.

Each becomes the run's `error` {error_type, message, suggestion, retryable}. Anything else that is
raised is a defect of ours and becomes `internal_error`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from cmbagent.wire import Failure


class Interrupted(Exception):
    """Somebody outside ended what the run was doing; it is worth beginning again."""


class Postponed(Exception):
    """It is worth going on later from the journal; `error` says what is in the way now, and
    `retry_after_s` when the one in the way said how long (None: it did not)."""

    def __init__(self, error: EngineError, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_s = retry_after_s


class EngineError(Exception):
    """Ends the run as failed. `message` states the fact, `suggestion` what to do about it. A retry
    goes on from the journal; `key` is the entry from which it must begin anew to end otherwise."""

    error_type: ClassVar[str]
    retryable: ClassVar[bool] = False  # the same task may succeed when it is run again
    key: str | None = None

    def __init__(self, message: str, suggestion: str) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion

    def failure(self) -> Failure:
        failure: Failure = {
            "error_type": self.error_type,
            "message": self.message,
            "suggestion": self.suggestion,
            "retryable": self.retryable,
        }
        return {**failure, "key": self.key} if self.key else failure


class ModeUnknown(EngineError):
    error_type = "mode_unknown"


class AgentUnknown(EngineError):
    error_type = "agent_unknown"


class FenceUnterminated(EngineError):
    error_type = "fence_unterminated"


class NoRecipe(EngineError):
    """Without a model, nothing here can do what the task asks."""

    error_type = "no_recipe"


class ModelNeeded(EngineError):
    """What is asked for can only be done by a model, and none is connected."""

    error_type = "model_needed"


class InputMissing(EngineError):
    """A file that the task is about is not there, or it is not clear which one is meant."""

    error_type = "input_missing"


class ParameterUnknown(EngineError):
    """Something that sets a value was not understood: its name, its value or its unit."""

    error_type = "parameter_unknown"


class ParameterOutOfRange(EngineError):
    error_type = "parameter_out_of_range"


class ParameterConflict(EngineError):
    """One parameter was given two different values."""

    error_type = "parameter_conflict"


class SandboxUnavailable(EngineError):
    error_type = "sandbox_unavailable"
    retryable = True


class EnvironmentFailed(EngineError):
    """The environment that executed code imports from could not be made."""

    error_type = "environment_failed"
    retryable = True


class WorkDirectoryUnusable(EngineError):
    """The work directory takes no file of ours: full, or earlier code put something in the way."""

    error_type = "work_directory_unusable"
    retryable = True


class CodeFailed(EngineError):
    """Executed code ended with an error, or a limit ended it."""

    error_type = "code_failed"
    retryable = True


class JournalMismatch(EngineError):
    """A replay met a finished call with other arguments: the program or its input changed."""

    error_type = "journal_mismatch"
    retryable = True

    def __init__(self, key: str) -> None:
        super().__init__(
            f"What the run did before does not fit what it would do now (at {key}).",
            "The program changed meanwhile. Retry: the run goes on from there anew, and what came "
            "before it is kept.",
        )
        self.key = key


class PayloadTooLarge(EngineError):
    """The result of one call is more than the journal takes."""

    error_type = "payload_too_large"

    def __init__(self, key: str, size: int) -> None:
        super().__init__(
            f"The result of {key} is {size / 2**20:.0f} MB; a call may return 64 MB.",
            "Write large results to a file and return its name.",
        )


class NobodyToAsk(EngineError):
    """The run has a question, and nobody can be asked here. `question` is what would be shown."""

    error_type = "nobody_to_ask"

    def __init__(self, question: dict[str, Any]) -> None:
        super().__init__(
            f"A person must decide: {question['message']}",
            "Start it where a person can answer.",
        )
        self.question = question


class NotApproved(EngineError):
    """A person said no."""

    error_type = "not_approved"


class AttemptsExhausted(EngineError):
    """The model's code failed as often as it may."""

    error_type = "attempts_exhausted"
    retryable = True


class RoundsExhausted(EngineError):
    """The model was asked as often as it may be, and gave no answer."""

    error_type = "rounds_exhausted"
    retryable = True


class InternalError(EngineError):
    error_type = "internal_error"
    retryable = True

    def __init__(self) -> None:
        super().__init__(
            "Something went wrong inside CMBAgent; your task is not to blame.",
            "Retry the run. If it fails again, the server's log says where.",
        )
