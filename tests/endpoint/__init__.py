"""An endpoint of a test's own that stands in for a provider of models.

It speaks the chat-completions protocol, streaming and not, answers from what it was sent, refuses
what lacks the task's words, the last error or the tool's output, and misbehaves on demand.
"""

from tests.endpoint.faults import Fault
from tests.endpoint.minds import calls_for, sum_of_squares, task_of
from tests.endpoint.personalities import CONTRARY, PERSONALITIES, PLAIN, WITHOUT_USAGE, Personality
from tests.endpoint.server import Endpoint, Request

__all__ = [
    "CONTRARY",
    "PERSONALITIES",
    "PLAIN",
    "WITHOUT_USAGE",
    "Endpoint",
    "Fault",
    "Personality",
    "Request",
    "calls_for",
    "sum_of_squares",
    "task_of",
]
