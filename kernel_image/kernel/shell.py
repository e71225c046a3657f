"""The IPython shell of a kernel: plain tracebacks, text on stdout, `exit` that exits."""

import math
import os
import signal
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
_MAX_DISPLAY_CHARACTERS = 3 << 22
"""Of one representation of one output: the service drops a connection that sends larger frames."""
_TRACEBACK_ENDS = 30
"""Entries shown of each end of a long traceback."""
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
        if isinstance(text, str) and not (self.shell is not None and self.shell.in_notebook):
            print(text)
        super().write_format_data(_bounded(format_dict), md_dict)

    def update_user_ns(self, result: object) -> None:
        """`_`, `_1` and `Out` are of cells that count."""
        if self.shell is not None and self.shell.keeps_results:
            super().update_user_ns(result)


class DisplayPublisher(ZMQDisplayPublisher):
    """Sends displays, within what the service takes as one message."""

    def publish(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().publish(_bounded(data), *args, **kwargs)


class Shell(ZMQInteractiveShell):
    """One program's shell."""

    displayhook_class = Type(DisplayHook)
    display_pub_class = Type(DisplayPublisher)
    exit_code: int = 0
    """Exit status that the last error of the cell means, as a shell would report it."""
    error: BaseException | None = None
    """The last error that was shown."""
    keeps_results: bool = False
    """Whether the values that are shown are kept for later cells."""
    in_notebook: bool = False
    """Whether who asked shows messages as a notebook does, and would see as text what is sent besides."""
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
        self.error = error
        if isinstance(error, SystemExit):
            self.exit_code = exit_status(error)
        else:
            self.exit_code = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
            super().showtraceback(exc_tuple, *args, **kwargs)

    def payloadpage_page(self, strg: str | dict[str, str], *_: Any, **__: Any) -> None:
        """What would open a pager (`len?`) is printed."""
        print(strg["text/plain"] if isinstance(strg, dict) else strg)

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        self.exit_code, self.error = self.exit_code or 1, evalue
        stb = _shortened(stb)
        text = "\n".join(stb).rstrip("\n")
        too_long = len(text) > _MAX_ERROR_CHARACTERS
        if too_long or not self.in_notebook:
            print(text, file=sys.stderr)
        if too_long:
            self._last_traceback = [text[:_MAX_ERROR_CHARACTERS]]
        else:
            # A notebook puts each entry on a line of its own.
            shown = [entry.rstrip("\n") for entry in stb] if self.in_notebook else stb
            super()._showtraceback(etype, evalue, shown)

    def system(self, cmd: str) -> None:
        """`!cmd`: a plain child process on the program's own descriptors, so that output is in order."""
        self.system_raw(cmd)


def _bounded(bundle: dict[str, Any]) -> dict[str, Any]:
    """`bundle` with what is too large for one message replaced by a note."""
    kept, notes = {}, []
    for mime, value in bundle.items():
        size = len(value) if isinstance(value, str | bytes) else 0
        if size <= _MAX_DISPLAY_CHARACTERS:
            kept[mime] = _finite(value)
        else:
            notes.append(f"[{mime} of {size} characters left out: too large to send]")
    if notes:
        kept["text/plain"] = "\n".join([*filter(None, [kept.get("text/plain")]), *notes])
    return kept


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinities: they are null, in what is shown."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _shortened(traceback: list[str]) -> list[str]:
    """A traceback without the middle of an endless recursion."""
    left_out = len(traceback) - 2 * _TRACEBACK_ENDS
    if left_out <= 0:
        return traceback
    ends = traceback[:_TRACEBACK_ENDS], traceback[-_TRACEBACK_ENDS:]
    return [*ends[0], f"  [{left_out} more frames left out]\n", *ends[1]]


def told(reply: dict[str, Any], error: BaseException | None) -> dict[str, Any]:
    """An execute_reply's content with the exception's name and a text that fits into a message.

    `error` is used where the reply has none: when showing the last value failed.
    """
    if reply.get("ename") == "NoneType" and error is not None:
        reply |= {"ename": type(error).__name__, "evalue": str(error)}
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
