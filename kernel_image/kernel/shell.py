"""The IPython shell of a kernel: plain tracebacks, text on stdout, `exit` that exits."""

import ast
import inspect
import math
import os
import signal
import sys
import warnings
from bdb import BdbQuit
from types import CodeType, TracebackType
from typing import Any

import IPython.core.interactiveshell
from ipykernel.displayhook import ZMQShellDisplayHook
from ipykernel.zmqshell import ZMQDisplayPublisher, ZMQInteractiveShell
from IPython.core.autocall import ExitAutocall
from IPython.core.interactiveshell import ExecutionResult
from traitlets import Any as AnyTrait
from traitlets import Type

_EXIT_HINT = "To exit: use"
_DISPLAY = "__display_last_value__"
"""Name of the built-in function that shows the value of a cell's last expression."""
_MAX_DISPLAY_CHARACTERS = 3 << 22
"""Most characters of one representation of an output. The service drops a connection with larger frames."""
_TRACEBACK_ENDS = 30
"""Entries shown at each end of a long traceback."""
_MAX_ERROR_CHARACTERS = 1 << 18
"""Most characters of an exception's text, and of its traceback, in a message. stderr gets all of it."""


class Exit(ExitAutocall):
    """`exit` and `quit` as in a script: a call raises SystemExit."""

    def __call__(self, code: object = None) -> None:
        raise SystemExit(code)


class DisplayHook(ZMQShellDisplayHook):
    """Sends the last expression's MIME bundle as execute_result and its text to stdout."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        text = format_dict.get("text/plain")
        if isinstance(text, str) and not (self.shell is not None and self.shell.in_notebook):
            print(text)
        super().write_format_data(_limit_size(format_dict), md_dict)

    def update_user_ns(self, result: object) -> None:
        """Set `_`, `_1` and `Out`, unless the cell is kept out of the history."""
        if self.shell is not None and self.shell.keeps_results:
            super().update_user_ns(result)


class DisplayPublisher(ZMQDisplayPublisher):
    """Sends displays, reduced to the size that the service accepts in one message."""

    def publish(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().publish(_limit_size(data), *args, **kwargs)


class Shell(ZMQInteractiveShell):
    """The kernel's shell. The kernel sets and reads the attributes of each cell."""

    displayhook_class = Type(DisplayHook)
    display_pub_class = Type(DisplayPublisher)
    exit_code: int = 0
    """Exit status of the cell, as a shell would report it; 0 if it raised no exception."""
    error: BaseException | None = None
    """The last exception that was shown."""
    keeps_results: bool = False
    """Whether `_` and `Out` keep the shown values for later cells."""
    in_notebook: bool = False
    """Whether the client is a notebook, which shows messages and would show their text a second time."""
    exiter = AnyTrait()

    def init_environment(self) -> None:
        os.environ |= {"TERM": "dumb", "PAGER": "cat", "GIT_PAGER": "cat"}

    def init_builtins(self) -> None:
        super().init_builtins()
        # IPython hides the first two, which modules that a program imports would not find.
        self.builtin_trap.auto_builtins |= {"exit": Exit(), "quit": Exit(), _DISPLAY: _display}

    def init_user_ns(self) -> None:
        super().init_user_ns()
        # IPython's own does not open the descriptors 0, 1 and 2.
        del self.user_ns["open"]
        self.user_ns["exit"] = self.user_ns["quit"] = Exit()

    async def run_ast_nodes(
        self,
        nodelist: list[ast.stmt],
        cell_name: str,
        interactivity: str = "last_expr",
        compiler: Any = compile,
        result: ExecutionResult | None = None,
    ) -> bool:
        """Run the statements as one module, in which a debugger steps from line to line.

        IPython compiles and runs each on its own.
        """
        if not nodelist:
            return False
        *others, last = nodelist
        if interactivity == "last_expr" and isinstance(last, ast.Expr):
            call = ast.Expr(ast.Call(ast.Name(_DISPLAY, ast.Load()), [last.value], []))
            last = ast.fix_missing_locations(ast.copy_location(call, last))
        statements = sorted([*others, last], key=_is_not_future_import)
        try:
            with compiler.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
                code = compiler(ast.Module(statements, []), cell_name, "exec")
        except Exception as error:
            if result is not None:
                result.error_before_exec = error
            self.showtraceback()
            return True
        return await self.run_code(code, result, async_=bool(code.co_flags & inspect.CO_COROUTINE))

    async def run_code(
        self, code_obj: CodeType, result: ExecutionResult | None = None, *, async_: bool = False
    ) -> bool:
        """Run code as IPython does, and show that a debugger was quit: the rest of the code did not run."""
        failed: bool = await super().run_code(code_obj, result, async_=async_)
        self.user_ns.pop("__return__", None)  # left by a debugger at the module's end
        if result is not None and isinstance(result.error_in_exec, BdbQuit):
            error = result.error_in_exec
            assert error.__traceback__ is not None
            self.showtraceback((type(error), error, error.__traceback__))
        return failed

    def excepthook(self, etype: type[BaseException], value: BaseException, tb: TracebackType | None) -> None:
        """Print an exception that a program passes to `sys.excepthook`. The program goes on."""
        sys.__excepthook__(etype, value, tb)

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
        """Print the text instead of opening a pager, for `len?` and the like."""
        print(strg["text/plain"] if isinstance(strg, dict) else strg)

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        self.exit_code, self.error = self.exit_code or 1, evalue
        stb = _shorten(stb)
        text = "\n".join(stb).rstrip("\n")
        too_long = len(text) > _MAX_ERROR_CHARACTERS
        if too_long or not self.in_notebook:
            print(text, file=sys.stderr)
        if too_long:
            self._last_traceback = [text[:_MAX_ERROR_CHARACTERS]]
        else:
            # A notebook adds a newline to each entry itself.
            shown = [entry.rstrip("\n") for entry in stb] if self.in_notebook else stb
            super()._showtraceback(etype, evalue, shown)

    def system(self, cmd: str) -> None:
        """Run `!cmd` as a plain child process on the same descriptors, so that the output is in order."""
        self.system_raw(cmd)


def _display(value: object) -> None:
    """Show the value of a cell's last expression. The program may have replaced `sys.displayhook`."""
    sys.displayhook(value)


def _is_not_future_import(statement: ast.stmt) -> bool:
    return not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__")


def _limit_size(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return a MIME bundle in which a note replaces each value that is too large for a message."""
    kept, notes = {}, []
    for mime, value in bundle.items():
        size = len(value) if isinstance(value, str | bytes) else 0
        if size <= _MAX_DISPLAY_CHARACTERS:
            kept[mime] = _without_nan(value)
        else:
            notes.append(f"[{mime} of {size} characters left out: too large to send]")
    if notes:
        kept["text/plain"] = "\n".join([*filter(None, [kept.get("text/plain")]), *notes])
    return kept


def _without_nan(value: Any) -> Any:
    """Return the value with null in place of NaN and infinities, which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value


def _shorten(traceback: list[str]) -> list[str]:
    """Return the traceback without its middle, which is long after an endless recursion."""
    left_out = len(traceback) - 2 * _TRACEBACK_ENDS
    if left_out <= 0:
        return traceback
    ends = traceback[:_TRACEBACK_ENDS], traceback[-_TRACEBACK_ENDS:]
    return [*ends[0], f"  [{left_out} more frames left out]\n", *ends[1]]


def complete_reply(reply: dict[str, Any], error: BaseException | None) -> dict[str, Any]:
    """Return an execute_reply's content with the exception's name, and its text cut to a message's size.

    Args:
        reply: the content. Its exception is missing if showing a value failed.
        error: the last exception that was shown, if any.
    """
    if error is not None and (reply["status"] == "ok" or reply.get("ename") == "NoneType"):
        reply |= {"status": "error", "ename": type(error).__name__, "evalue": str(error)}
        reply.setdefault("traceback", [])
    if "evalue" in reply:
        reply["evalue"] = reply["evalue"][:_MAX_ERROR_CHARACTERS]
    return reply


def exit_status(error: SystemExit) -> int:
    """Return the exit status of a program that ends with `error`. Print a message, which means status 1."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _warn_except_exit_hint(message: object, *args: Any, **kwargs: Any) -> None:
    if not str(message).startswith(_EXIT_HINT):
        warnings.warn(message, *args, **kwargs)  # type: ignore[call-overload]


vars(IPython.core.interactiveshell)["warn"] = _warn_except_exit_hint
