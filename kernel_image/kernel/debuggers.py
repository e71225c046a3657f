"""Debuggers (`breakpoint()`, pdb and IPython's) see the program only, and an interrupt ends them.

By itself, a debugger steps from the program's last line into the kernel. It answers an interrupt with another
prompt, so that the kernel of a caller who gives no answer would have to be killed.
"""

import bdb
import pdb  # noqa: T100 it is changed here
import sys
from types import FrameType, ModuleType
from typing import Any

from IPython.core import debugger
from IPython.core.interactiveshell import InteractiveShell

from kernel_image.kernel.post_import import call_after_import

_HIDDEN = ("IPython.", "ipykernel.", "jupyter_client.", "kernel_image.", "traitlets.", "zmq.")
"""Modules of the kernel. `print` and `display` of a program are functions of them."""


def prepare() -> None:
    """Change the debuggers of this process as described above."""
    trace, create, run_commands = bdb.Bdb.trace_dispatch, pdb.Pdb.__init__, pdb.Pdb.cmdloop

    def trace_program(self: bdb.Bdb, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_globals.get("__name__", "").startswith(_HIDDEN):
            return trace(self, frame, event, arg)
        if frame.f_code is InteractiveShell.run_code.__code__ and event in ("line", "exception"):
            self.set_continue()  # the program's last line has run
        return None

    def create_without_signals(self: pdb.Pdb, *args: Any, **kwargs: Any) -> None:
        create(self, *args, **kwargs)
        vars(self)["nosigint"] = True

    def run_until_interrupted(self: pdb.Pdb) -> None:
        try:
            run_commands(self)
        except KeyboardInterrupt:
            sys.settrace(None)
            raise

    bdb.Bdb.trace_dispatch = trace_program  # type: ignore[method-assign]
    pdb.Pdb.__init__ = create_without_signals  # type: ignore[method-assign]
    pdb.Pdb._cmdloop = run_until_interrupted  # type: ignore[method-assign]
    call_after_import("IPython.terminal.debugger", _need_no_terminal)


def _need_no_terminal(terminal: ModuleType) -> None:
    """Let `set_trace` of IPython's terminal read input as all debuggers do."""
    vars(terminal)["set_trace"] = debugger.set_trace
