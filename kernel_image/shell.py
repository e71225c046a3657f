"""The IPython shell of a kernel: plain tracebacks, text on stdout, `exit` that exits."""

import os
import sys
import warnings
from types import TracebackType
from typing import Any

import IPython.core.interactiveshell
from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.zmqshell import ZMQDisplayPublisher, ZMQInteractiveShell
from IPython.core.autocall import ExitAutocall
from traitlets import Any as AnyTrait
from traitlets import Type

_EXIT_HINT = "To exit: use"
_MAX_DISPLAY_CHARACTERS = 1 << 25
"""Of one representation of one output: the service drops a connection that sends larger frames."""
_MAX_ERROR_CHARACTERS = 1 << 18
"""Of an exception's text, and of its traceback, in a message; stderr has all of it."""


class Exit(ExitAutocall):
    """`exit` and `quit` as in a script: they raise SystemExit where they stand."""

    def __call__(self, code: object = None) -> None:
        raise SystemExit(code)


class DisplayHook(ZMQShellDisplayHook):
    """Sends the last expression's MIME bundle as execute_result and its text to stdout."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        text = format_dict.get("text/plain")
        if isinstance(text, str):
            print(text)
        super().write_format_data(_bounded(format_dict), md_dict)


class DisplayPublisher(ZMQDisplayPublisher):
    """Sends displays, within what the service takes as one message."""

    def publish(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().publish(_bounded(data), *args, **kwargs)


class Shell(ZMQInteractiveShell):
    """One program's shell."""

    displayhook_class = Type(DisplayHook)
    display_pub_class = Type(DisplayPublisher)
    exit_code: int = 0
    """Exit status of the last cell, as a shell would report it."""
    exiter = AnyTrait()

    def init_environment(self) -> None:
        os.environ |= {"TERM": "dumb", "PAGER": "cat", "GIT_PAGER": "cat"}

    def init_user_ns(self) -> None:
        super().init_user_ns()
        self.user_ns["exit"] = self.user_ns["quit"] = Exit()

    def showtraceback(
        self,
        exc_tuple: tuple[type[BaseException], BaseException, TracebackType] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        error = exc_tuple[1] if exc_tuple else sys.exception()
        if isinstance(error, SystemExit):
            self.exit_code = exit_status(error)
        else:
            self.exit_code = 1
            super().showtraceback(exc_tuple, *args, **kwargs)

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        self.exit_code = 1
        text = "\n".join(stb).rstrip("\n")
        print(text, file=sys.stderr)
        if len(text) > _MAX_ERROR_CHARACTERS:
            self._last_traceback = [text[:_MAX_ERROR_CHARACTERS]]
        else:
            super()._showtraceback(etype, evalue, stb)

    def system(self, cmd: str) -> None:
        """`!cmd`: a plain child process on the program's own descriptors, so that output is in order."""
        self.system_raw(cmd)


def _bounded(bundle: dict[str, Any]) -> dict[str, Any]:
    """`bundle` with what is too large for one message replaced by a note."""
    kept = {}
    for mime, value in bundle.items():
        size = len(value) if isinstance(value, str | bytes) else 0
        if size <= _MAX_DISPLAY_CHARACTERS:
            kept[mime] = value
        else:
            kept.setdefault("text/plain", f"[{mime} of {size} characters left out: too large to send]")
    return kept


def bounded_error(reply: dict[str, Any]) -> dict[str, Any]:
    """An execute_reply's content with an exception's text cut to what a message may hold."""
    if "evalue" in reply:
        reply["evalue"] = reply["evalue"][:_MAX_ERROR_CHARACTERS]
    return reply


def exit_status(error: SystemExit) -> int:
    """Status of a program that ends with `error`; a message goes to stderr and means 1."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _warn_but_not_of_exit(message: object, *args: Any, **kwargs: Any) -> None:
    if not str(message).startswith(_EXIT_HINT):
        warnings.warn(message, *args, **kwargs)  # type: ignore[call-overload]


vars(IPython.core.interactiveshell)["warn"] = _warn_but_not_of_exit
