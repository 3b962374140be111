"""How every process logs: structlog over the standard library, readable or JSON."""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import unquote

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_TOKEN = re.compile(r"(token=)[^&\s'\"]+")
# looked for from the beginning of a word only: from each of its letters, a stranger's address of
# 15 KB would keep the process for seconds
_QUERY = re.compile(r"(?<![^\s'\"?])([^\s'\"?]*)\?\S+")
_LINK_PATH = "/sign-in/link"


def hide_tokens(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """A sign-in link is a password for ten minutes: its token never reaches a log line."""
    for key, value in event_dict.items():
        if isinstance(value, str) and ("token=" in value or "?" in value):
            event_dict[key] = _TOKEN.sub(r"\1[hidden]", _QUERY.sub(_without_query, value))
    return event_dict


def _without_query(address: re.Match[str]) -> str:
    """Django reads `tok%65n=` too: nothing after the link's path is shown, whatever it is."""
    return f"{address[1]}?[hidden]" if _LINK_PATH in unquote(address[1]) else address[0]


class InOneLine(logging.Filter):
    """What a stranger can cause at will is no error of ours, and has no traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
        return True


SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.UnicodeDecoder(),
    hide_tokens,
]


def logging_config(*, level: str, json: bool, file: str) -> dict[str, Any]:
    """The dictConfig of all processes; also sets structlog itself up."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handlers: dict[str, dict[str, Any]] = {
        "console": {"class": "logging.StreamHandler", "formatter": "json" if json else "readable"}
    }
    if file:
        # WatchedFileHandler: an operator's logrotate may move the file under us
        handlers["file"] = {
            "class": "logging.handlers.WatchedFileHandler",
            "filename": file,
            "formatter": "json",
        }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": _formatter(
                structlog.processors.format_exc_info,
                hide_tokens,
                structlog.processors.JSONRenderer(),
            ),
            "readable": _formatter(
                # the default shows the values of variables where `rich` is installed
                structlog.dev.ConsoleRenderer(
                    colors=False, exception_formatter=structlog.dev.plain_traceback
                )
            ),
        },
        "filters": {"in one line": {"()": InOneLine}},
        "handlers": handlers,
        "root": {"handlers": list(handlers), "level": level},
        "loggers": {
            "django.server": {"handlers": list(handlers), "level": level, "propagate": False},
            "django.security.DisallowedHost": {"filters": ["in one line"]},
            "daphne": {"level": "WARNING"},
            "django-q": {"level": "WARNING"},  # a line per bell says nothing
            "asyncio": {"level": "WARNING"},
            "django.channels.server": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},  # what asks models
        },
    }


def _formatter(*renderers: Processor) -> dict[str, Any]:
    return {
        "()": structlog.stdlib.ProcessorFormatter,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        "foreign_pre_chain": SHARED,
    }
