"""The IPython kernel of a container: runs cells with options.

An execute_request may carry options under `contract.CELL_METADATA` in its metadata:

    last_line_interactive  bool   show the value of the last expression (default true)
    stdin                  str    content of descriptor 0; absent: end of file at once
    final                  bool   the cell is a whole program: do what an interpreter does at exit
    cell_id                str    wait until the supervisor collects the output of that cell
    notebook               bool   send values and tracebacks as messages only, and not as text as well

The content of the execute_reply has, under the same name, {"exit_code": int, "wall_seconds": float} and, if
there are any, {"imported": [module, ...]}: modules of `learnable.MODULES` that programs have imported.
"""

import asyncio
import importlib
import os
import signal
import sys
import time
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from traitlets import Type

from kernel_image import contract
from kernel_image.kernel.figures import show_open_figures
from kernel_image.kernel.interpreter_exit import InterpreterExit
from kernel_image.kernel.shell import Shell, complete_reply, exit_status
from kernel_image.kernel.streams import StandardStreams
from kernel_image.kernel.supervisor_pipes import SupervisorPipes

_BYTE_ORDER_MARK = "\ufeff"


class Kernel(IPythonKernel):
    """An IPython kernel that understands the options above. `app.run` sets its parts."""

    _supports_kernel_subshells = False
    shell_class = Type(Shell)
    streams: StandardStreams
    interpreter_exit: InterpreterExit
    supervisor_pipes: SupervisorPipes
    process_id: int
    learnable: tuple[str, ...]
    """Modules of `learnable.MODULES` that the zygote has not imported."""

    def start(self) -> None:
        """Start serving, and let signals wake the event loop: otherwise an `await` delays an interrupt."""
        super().start()
        asyncio.get_event_loop().add_signal_handler(signal.SIGWINCH, lambda: None)

    def _forward_input(self, allow_stdin: bool = False) -> None:
        """Let `input()` ask the client if the client allows that; otherwise it reads descriptor 0."""
        super()._forward_input(allow_stdin)
        if not allow_stdin:
            self._restore_input()

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        allow_stdin: bool = False,
        *,
        cell_meta: dict[str, Any] | None = None,
        cell_id: str | None = None,
    ) -> dict[str, Any]:
        options = (cell_meta or {}).get(contract.CELL_METADATA, {})
        importlib.invalidate_caches()
        shell = self._shell()
        shell.exit_code, shell.error, shell.keeps_results = 0, None, store_history
        shell.in_notebook = bool(options.get("notebook"))
        self.streams.marks.begin_cell(in_notebook=shell.in_notebook)
        exit_failed = False
        self.supervisor_pipes.begin_cell(options.get("cell_id"), keep_outputs=not options.get("final"))
        self.interpreter_exit.remember_kernel_tasks()
        began = time.monotonic()
        shell.ast_node_interactivity = "last_expr" if options.get("last_line_interactive", True) else "none"
        try:
            with self.streams.stdin(options.get("stdin")):
                reply: dict[str, Any] = await super().do_execute(
                    code.removeprefix(_BYTE_ORDER_MARK),
                    silent,
                    store_history,
                    user_expressions,
                    allow_stdin,
                    cell_meta=cell_meta,
                    cell_id=cell_id,
                )
                if os.getpid() != self.process_id:
                    # This is a child that user code has forked. It ends here, as it would at a script's end.
                    self.streams.restore()
                    os._exit(shell.exit_code)
                self._show_figures()
                if options.get("final"):
                    exit_failed = not self._exit_interpreter()
        except (asyncio.CancelledError, KeyboardInterrupt):
            # An interrupt cancels a cell that awaits, and ipykernel would send no reply. It may also arrive
            # when the program has just ended, and would end the kernel.
            shell.exit_code = 128 + signal.SIGINT
            print("KeyboardInterrupt", file=sys.stderr)
            reply = self._interrupted_reply()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # ipykernel listens again with the next cell
            self.streams.restore()
        reply = complete_reply(reply, shell.error)
        failed = reply["status"] == "error" or exit_failed
        facts: dict[str, Any] = {
            "exit_code": shell.exit_code if failed else 0,
            "wall_seconds": round(time.monotonic() - began, 6),
        }
        if imported := [name for name in self.learnable if name in sys.modules]:
            facts["imported"] = imported
        reply |= {contract.CELL_METADATA: facts}
        self.supervisor_pipes.end_cell(reply)
        return reply

    def do_complete(self, code: str, cursor_pos: int) -> dict[str, Any]:  # type: ignore[override]
        """Complete code as IPython does; an object that exits when it is inspected has no completions."""
        try:
            reply: dict[str, Any] = super().do_complete(code, cursor_pos)
        except SystemExit:
            return {"status": "ok", "matches": [], "cursor_start": cursor_pos, "cursor_end": cursor_pos}
        return reply

    def do_inspect(  # type: ignore[override]
        self, code: str, cursor_pos: int, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Inspect code as IPython does; an object that exits when it is inspected is not found."""
        try:
            reply: dict[str, Any] = super().do_inspect(code, cursor_pos, *args, **kwargs)
        except SystemExit:
            return {"status": "ok", "found": False, "data": {}, "metadata": {}}
        return reply

    def _input_request(self, prompt: str, ident: object, parent: object, password: bool = False) -> str:
        """Ask for input through the supervisor, which keeps the request for a service that reads late."""
        self.streams.stdout.flush()
        return self.supervisor_pipes.request_input(prompt, password=password)

    def _interrupted_reply(self) -> dict[str, Any]:
        return {
            "status": "error",
            "ename": "KeyboardInterrupt",
            "evalue": "",
            "traceback": [],
            "execution_count": self._shell().execution_count - 1,
            "user_expressions": {},
            "payload": [],
        }

    def _show_figures(self) -> None:
        """Show the figures that the cell has left open. An error of one is an error of the cell."""
        shell = self._shell()
        try:
            show_open_figures(shell)
        except (Exception, KeyboardInterrupt):
            shell.showtraceback()

    def _shell(self) -> Shell:
        assert isinstance(self.shell, Shell)
        return self.shell

    def _exit_interpreter(self) -> bool:
        """Do what an interpreter does at exit; return False if that raised an exception."""
        shell = self._shell()
        try:
            self.interpreter_exit.run(shell.user_ns)
        except SystemExit as error:
            shell.exit_code = exit_status(error)
            return False
        except BaseException:
            shell.showtraceback()
            return False
        return True
