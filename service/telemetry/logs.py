"""The format of the log: one line or one JSON object per record, with the ids of the request.

The log contains no API keys, and nothing that callers or their code have sent. So an unexpected error is
logged with its type and its traceback, and with its text only if that cannot quote such data.
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
    # These libraries log each of their steps, or data of clients, at lower levels.
    "alembic": "WARNING",
    "python_multipart": "ERROR",
    "urllib3": "WARNING",
    "docker": "WARNING",
    "mcp": "ERROR",
    # otlp.py logs one warning while the collector does not answer. These records quote request headers.
    "opentelemetry": "CRITICAL",
}

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class AddRequestContext(logging.Filter):
    """A filter that adds the ids of the current request and execution to each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.__dict__.pop("color_message", None)  # a copy of the message, with colours for terminals
        context = current()
        if context is not None:
            for name in ("request_id", "execution_id", "trace_id"):
                value = getattr(context, name)
                if value is not None:
                    record.__dict__.setdefault(name, value)
        return True


class ConsoleLines(logging.Formatter):
    """The format for people: time, level, logger, message, and the ids that are known."""

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
    """The format for programs: one JSON object per line, in ASCII.

    Its fields are `time`, `level`, `logger`, `message`, the ids, and the extra fields of the record.
    """

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
    """Return the tracebacks of an error and of its causes, without text that a caller may have sent."""
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
    """Set up logging to standard error, also for uncaught errors."""
    own = dict.fromkeys(("service", "sessions"), level)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"context": {"()": AddRequestContext}},
            "formatters": {"line": {"()": JsonLines if log_format == "json" else ConsoleLines}},
            "handlers": {
                "stderr": {
                    "class": "logging.StreamHandler",
                    "formatter": "line",
                    "filters": ["context"],
                }
            },
            # The debug records of libraries quote the data of callers.
            "root": {"handlers": ["stderr"], "level": "INFO" if level == "DEBUG" else level},
            "loggers": {name: {"level": its_level} for name, its_level in (_LEVELS | own).items()},
        }
    )
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def is_json() -> bool:
    """Return whether the log is in JSON."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def say(text: str, *, fatal: bool = False) -> None:
    """Show a text to the operator: on standard output or error, or in the log if that is in JSON.

    A text that is ``fatal`` goes to standard error.
    """
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
    """Log an error of the event loop. The handler of asyncio itself would log the values of variables."""
    error = context.get("exception")
    log.error("%s", context["message"], exc_info=error if isinstance(error, Exception) else None)


def _uncaught(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, frames)
    else:
        log.critical("uncaught error", exc_info=(kind, error, frames))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        log.critical(
            "uncaught error in a thread", exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
        )
