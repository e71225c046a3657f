"""What is logged, and how: a line for a person or a JSON object for a program, with the ids of its trail.

What callers and their code have said, and keys, stay out of the log. So of an error that nobody
expected there is its type and its place, and its text only where that can't quote them.
"""

import asyncio
import logging
import logging.config
import sys
import threading
import traceback
from types import TracebackType
from typing import Any, Final, Literal

from pythonjsonlogger.json import JsonFormatter

from service.errors import StartError
from service.telemetry.request_context import current
from sessions.errors import log_text

Format = Literal["console", "json"]

log = logging.getLogger(__name__)

_LEVELS: Final = {
    # They report each of their steps, or what a client sent, as news.
    "alembic": "WARNING",
    "python_multipart": "ERROR",
    "urllib3": "WARNING",
    "docker": "WARNING",
    "mcp": "ERROR",
    # Of a collector that is away there is one warning, see otlp.py; and these quote their headers.
    "opentelemetry": "CRITICAL",
}

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class AddRequestContext(logging.Filter):
    """Puts the ids of the running request and execution into each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.__dict__.pop("color_message", None)  # uvicorn's, for terminals
        trail = current()
        if trail is not None:
            for name in ("request_id", "execution_id", "trace_id"):
                value = getattr(trail, name)
                if value is not None:
                    record.__dict__.setdefault(name, value)
        return True


class ConsoleLines(logging.Formatter):
    """Time, level, logger, message, and the ids where there are any."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = super().formatMessage(record)
        for name in ("request_id", "execution_id", "trace_id"):
            if (value := record.__dict__.get(name)) is not None:
                line += f" {name}={value}"
        return line

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return describe(ei)


class JsonLines(JsonFormatter):
    """One object a line, in ASCII: `time`, `level`, `logger`, `message`, the ids, and what a record adds."""

    def __init__(self) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            rename_fields_keep_missing=False,
            timestamp="time",
        )

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return describe(ei)


def describe(exc_info: ExcInfo) -> str:
    """The traceback of an error and of those it comes from, without words that may be a caller's."""
    parts: list[str] = []
    error: BaseException | None = exc_info[1]
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{_line_of(error)}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\nWhich led to:\n\n".join(reversed(parts))


def _line_of(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: [Errno {error.errno}] {error.strerror}"
    text = str(error) if isinstance(error, StartError) else log_text(error)
    return name if text == kind.__name__ else f"{name}: {text}"


def configure_logging(level: str, log_format: Format = "console") -> None:
    """Log to standard error, uncaught errors included."""
    own = dict.fromkeys(("service", "sessions"), level)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"trail": {"()": AddRequestContext}},
            "formatters": {"line": {"()": JsonLines if log_format == "json" else ConsoleLines}},
            "handlers": {
                "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["trail"]}
            },
            # What libraries tell who debugs them has in it what passes through them.
            "root": {"handlers": ["stderr"], "level": "INFO" if level == "DEBUG" else level},
            "loggers": {name: {"level": its_level} for name, its_level in (_LEVELS | own).items()},
        }
    )
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def is_json() -> bool:
    """Whether programs read the log."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def say(text: str, *, fatal: bool = False) -> None:
    """Tell the operator: to a person as it is, on standard output or error; to a program in the log."""
    if is_json():
        if fatal:
            log.critical("%s", text)
        else:
            log.info("%s", text.strip().split("\n")[0])
        return
    stream = sys.stderr if fatal else sys.stdout
    stream.write(f"{text}\n")
    stream.flush()


def loop_failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `set_exception_handler`: asyncio's own would show values."""
    error = context.get("exception")
    log.error("%s", context["message"], exc_info=error if isinstance(error, Exception) else None)


def _uncaught(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, frames)
    else:
        log.critical("uncaught error", exc_info=(kind, error, frames))


def _uncaught_in_thread(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        log.critical(
            "uncaught error in a thread", exc_info=(what.exc_type, what.exc_value, what.exc_traceback)
        )
