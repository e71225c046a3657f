"""The IPython kernel of a container, run in a process forked from the zygote.

An execute_request may carry options under `contract.CELL_METADATA` in its metadata:

    last_line_interactive  bool   show the value of the last expression (default true)
    stdin                  str    what descriptor 0 gives; absent: end of file at once
    final                  bool   the cell is a whole program: end as a program ends
    cell_id                str    begin when the supervisor is ready for that cell
    notebook               bool   values and tracebacks are messages only, and not text as well; and
                                  stdout has marks, see `marks`

and the execute_reply's content has, under the same name, {"exit_code": int}.
"""

import asyncio
import contextlib
import importlib
import io
import logging
import os
import signal
import sys
import threading
import time
import uuid
from typing import Any

import zmq
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from traitlets import Type
from traitlets.config import Config
from zmq.eventloop.zmqstream import ZMQStream

from kernel_image import contract
from kernel_image.kernel import nested_asyncio
from kernel_image.kernel.journal import Journal
from kernel_image.kernel.marks import Marks
from kernel_image.kernel.program import ProgramEnd
from kernel_image.kernel.publisher import Publisher
from kernel_image.kernel.shell import Shell, exit_status, told
from kernel_image.kernel.streams import StandardStreams

_BYTE_ORDER_MARK = "\ufeff"


class _NoShellChannelThread:
    """ipykernel's thread for subshells, which hands each message from one thread to another and back.

    Without one, which ipykernel foresees, cells still ask it who its parent is.
    """

    parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False


class Kernel(IPythonKernel):
    """Runs cells with the options above."""

    _supports_kernel_subshells = False
    shell_class = Type(Shell)
    streams: StandardStreams
    program_end: ProgramEnd
    journal: Journal
    marks: Marks
    process_id: int

    def start(self) -> None:
        """Serve; and have every signal wake the event loop, or an interrupt waits for what it awaits."""
        super().start()
        asyncio.get_event_loop().add_signal_handler(signal.SIGWINCH, lambda: None)

    def _forward_input(self, allow_stdin: bool = False) -> None:
        """Ask the client only where it said that it answers; otherwise `input()` reads descriptor 0."""
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
        self.marks.begin(on=shell.in_notebook)
        finished_badly = False
        self.journal.begin(options.get("cell_id"), keep=not options.get("final"))
        self.program_end.begin()
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
                if options.get("final") and os.getpid() == self.process_id:
                    finished_badly = not self._finish_program()
            if os.getpid() != self.process_id:
                # A child that the code forked and that came back from it: it ends as a script would.
                self.streams.restore()
                os._exit(shell.exit_code)
        except asyncio.CancelledError:
            # An interrupt cancels a cell that awaits; ipykernel would leave it without a reply.
            shell.exit_code = 128 + signal.SIGINT
            print("KeyboardInterrupt", file=sys.stderr)
            reply = self._interrupted_reply()
        finally:
            self.streams.restore()
        failed = reply["status"] == "error" or finished_badly
        reply = told(reply, shell.error)
        reply |= {
            contract.CELL_METADATA: {
                "exit_code": shell.exit_code if failed else 0,
                "wall_seconds": round(time.monotonic() - began, 6),
            }
        }
        self.journal.end(reply)
        return reply

    def do_complete(self, code: str, cursor_pos: int) -> dict[str, Any]:  # type: ignore[override]
        """As ever, but that an object that exits when it is looked at has nothing to say."""
        try:
            reply: dict[str, Any] = super().do_complete(code, cursor_pos)
        except SystemExit:
            return {"status": "ok", "matches": [], "cursor_start": cursor_pos, "cursor_end": cursor_pos}
        return reply

    def do_inspect(  # type: ignore[override]
        self, code: str, cursor_pos: int, *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """As `do_complete`."""
        try:
            reply: dict[str, Any] = super().do_inspect(code, cursor_pos, *args, **kwargs)
        except SystemExit:
            return {"status": "ok", "found": False, "data": {}, "metadata": {}}
        return reply

    def _input_request(self, prompt: str, ident: object, parent: object, password: bool = False) -> str:
        """Ask through the supervisor, which the service also hears when it is slow to follow."""
        self.streams.stdout.flush()
        return self.journal.ask(prompt, password=password)

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

    def _shell(self) -> Shell:
        assert isinstance(self.shell, Shell)
        return self.shell

    def _finish_program(self) -> bool:
        """End as a program does; False if that ended with an error of its own."""
        shell = self._shell()
        try:
            self.program_end.finish(shell.user_ns)
        except SystemExit as error:
            shell.exit_code = exit_status(error)
            return False
        except BaseException:
            shell.showtraceback()
            return False
        return True


class KernelApp(IPKernelApp):
    """ipykernel's application in two steps, without what a kernel in a container has no use for.

    `initialize` makes all that needs neither sockets nor threads, once, in the zygote; `connect` does
    the rest in each kernel that is forked from it. There are no control, stdin and heartbeat
    channels: the supervisor sends signals, asks the questions and knows when the process dies.
    """

    kernel_class = Type(Kernel)
    outstream_class = None  # type: ignore[assignment]

    def initialize(self, argv: list[str] | None = None) -> None:
        self.init_io()
        self.shell_channel_thread = _NoShellChannelThread()
        self.kernel = Kernel.instance(
            parent=self, session=self.session, shell_channel_thread=self.shell_channel_thread, log=self.log
        )
        self.displayhook.get_execution_count = lambda: self.kernel.execution_count
        self.init_path()
        self.init_shell()

    def connect(self, key: str, port_offset: int) -> None:
        """Listen on the contract's ports, so much further up, with messages signed with `key`."""
        self.session.key = key.encode()
        self.session.session = uuid.uuid4().hex
        self.session.pid = os.getpid()
        self.context = zmq.Context()
        self.shell_socket = self.context.socket(zmq.ROUTER)
        self.shell_socket.router_handover = 1
        self._bind_socket(self.shell_socket, contract.SHELL_PORT + port_offset)
        # A flood must not lose the message that says it is over: all that is published is queued.
        self.context.setsockopt(zmq.SNDHWM, 0)
        iopub = self.context.socket(zmq.PUB)
        self._bind_socket(iopub, contract.IOPUB_PORT + port_offset)
        self.init_signal()
        self.publish_to(Publisher(iopub))
        self.kernel.shell_stream = ZMQStream(self.shell_socket)

    def publish_to(self, socket: object) -> None:
        """Have all that publishes use that socket."""
        kernel, shell = self.kernel, self.kernel.shell
        kernel.iopub_socket = self.displayhook.pub_socket = socket
        shell.displayhook.pub_socket = shell.display_pub.pub_socket = socket


class _Nowhere:
    """A socket for what is published before there is one."""

    def send_multipart(self, *_: object, **__: object) -> None:
        pass


def _config() -> Config:
    config = Config()
    # Sending without a copy starts a thread of pyzmq's with an exit handler, which a program's end runs.
    config.Session.copy_threshold = 1 << 40
    # It waits for streams to be sent before a reply is, and ours are pipes.
    config.Kernel._execute_sleep = 0.0
    config.KernelApp.ip = "0.0.0.0"
    config.KernelApp.log_level = "CRITICAL"
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Plain"
    config.HistoryManager.enabled = False
    # It parses sources, anew in each container: seconds, where the objects themselves take milliseconds.
    config.Completer.use_jedi = False
    return config


def build() -> KernelApp:
    """The kernel but for its sockets and threads, for a process that forks: see `run`.

    It has run a cell: the first one in a fresh shell costs 25 ms more than the next.
    """
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    sys.argv = [""]
    sys.path.insert(0, "")
    sys.dont_write_bytecode = True
    app = KernelApp.instance(config=_config())
    app.initialize()
    app.publish_to(_Nowhere())
    shell = app.kernel.shell
    with contextlib.redirect_stdout(io.StringIO()):
        shell.run_cell("1", store_history=False)
    nested_asyncio.allow()
    return app


def run(app: KernelApp, key: str, port_offset: int, ready: int, journal: int, answers: int) -> None:
    """Serve as the kernel signed with `key`; write one byte to the descriptor `ready` when listening.

    `journal` and `answers` are the descriptors of a `Journal`. For a process forked after `build`.
    """
    streams = StandardStreams()
    app.connect(key, port_offset)
    app.kernel.streams = streams
    app.kernel.process_id = os.getpid()
    app.kernel.journal = Journal(journal, answers)
    app.kernel.journal.listen_to(app.kernel.session)
    app.kernel.marks = Marks(key, streams.own_stdout)
    app.kernel.marks.listen_to(app.kernel.session)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    app.kernel.program_end = ProgramEnd()
    os.write(ready, b"1")
    os.close(ready)
    app.start()
