"""Starts kernels in two steps: `build` in the zygote, once, and `run` in each process forked from it."""

import contextlib
import io
import logging
import os
import sys
import threading
import uuid

import zmq
from ipykernel.kernelapp import IPKernelApp
from traitlets import Type
from traitlets.config import Config
from zmq.eventloop.zmqstream import ZMQStream

from kernel_image import contract, learnable
from kernel_image.kernel import charts, debuggers, figures, nested_asyncio, programs, widgets
from kernel_image.kernel.interpreter_exit import InterpreterExit
from kernel_image.kernel.iopub import IOPubPublisher
from kernel_image.kernel.kernel import Kernel
from kernel_image.kernel.shell import Shell
from kernel_image.kernel.streams import StandardStreams
from kernel_image.kernel.supervisor_pipes import SupervisorPipes


class _NoShellChannelThread:
    """Takes the place of ipykernel's thread for subshells, which passes each message through two threads.

    ipykernel supports its absence, but cells still read `parent_thread`.
    """

    parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False


class KernelApp(IPKernelApp):
    """ipykernel's application in two steps, without the parts that a kernel in a container does not need.

    `initialize` creates everything that needs neither sockets nor threads, and `connect` the rest.
    There are no control, stdin and heartbeat channels: the supervisor sends signals, forwards input
    requests, and sees when the process ends.
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
        shell = self.kernel.shell
        assert isinstance(shell, Shell)
        for module in (figures, charts, widgets):
            module.prepare(shell)
        debuggers.prepare()

    def connect(self, key: str, port_offset: int) -> None:
        """Listen for messages that are signed with `key`, on the contract's ports plus `port_offset`."""
        self.session.key = key.encode()
        self.session.session = uuid.uuid4().hex
        self.session.pid = os.getpid()
        self.context = zmq.Context()
        self.shell_socket = self.context.socket(zmq.ROUTER)
        self.shell_socket.router_handover = 1
        self._bind_socket(self.shell_socket, contract.SHELL_PORT + port_offset)
        # Queue without limit: zmq drops messages of a full queue, and the last one ends the cell.
        self.context.setsockopt(zmq.SNDHWM, 0)
        iopub = self.context.socket(zmq.PUB)
        self._bind_socket(iopub, contract.IOPUB_PORT + port_offset)
        self.init_signal()
        self.publish_to(IOPubPublisher(iopub))
        self.kernel.shell_stream = ZMQStream(self.shell_socket)

    def publish_to(self, socket: object) -> None:
        """Make every part that publishes messages use `socket`."""
        kernel, shell = self.kernel, self.kernel.shell
        kernel.iopub_socket = self.displayhook.pub_socket = socket
        shell.displayhook.pub_socket = shell.display_pub.pub_socket = socket


class _NullSocket:
    """Discards messages that are published before the IOPub socket exists."""

    def send_multipart(self, *_: object, **__: object) -> None:
        pass


def _config() -> Config:
    config = Config()
    # Above this size pyzmq sends without a copy, in a thread whose exit handler a program's end would run.
    config.Session.copy_threshold = 1 << 40
    # By default ipykernel waits before a reply, so that its streams are sent first. Ours are pipes.
    config.Kernel._execute_sleep = 0.0
    config.KernelApp.ip = "0.0.0.0"
    config.KernelApp.log_level = "CRITICAL"
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Plain"
    config.HistoryManager.enabled = False
    # Jedi parses source code for seconds, in each container. Inspecting live objects takes milliseconds.
    config.Completer.use_jedi = False
    return config


def build() -> KernelApp:
    """Return a kernel without sockets and threads, for a process that forks: see `run`."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    sys.argv = [""]
    sys.path.insert(0, "")
    sys.dont_write_bytecode = True
    app = KernelApp.instance(config=_config())
    app.initialize()
    app.publish_to(_NullSocket())
    shell = app.kernel.shell
    # The first cell of a shell costs 25 ms more than later ones, so run one before the fork.
    with contextlib.redirect_stdout(io.StringIO()):
        shell.run_cell("1", store_history=False)
    nested_asyncio.allow()
    return app


def run(app: KernelApp, key: str, port_offset: int, ready: int, events: int, commands: int) -> None:
    """Serve as a kernel, in a process forked after `build`.

    Args:
        app: what `build` has returned.
        key: signs the kernel's messages.
        port_offset: added to the contract's ports.
        ready: descriptor to which one byte is written when the kernel listens.
        events: descriptor of `SupervisorPipes`, to write.
        commands: descriptor of `SupervisorPipes`, to read.
    """
    streams = StandardStreams(key)
    app.connect(key, port_offset)
    kernel = app.kernel
    kernel.streams = streams
    kernel.process_id = os.getpid()
    kernel.supervisor_pipes = SupervisorPipes(events, commands)
    kernel.supervisor_pipes.record_outputs_of(kernel.session)
    streams.marks.mark_messages_of(kernel.session)
    if "numpy" in sys.modules:
        # The zygote's generators have one state, which all kernels would share.
        sys.modules["numpy"].random.seed()
    if "sympy.core.random" in sys.modules:
        sys.modules["sympy.core.random"].rng.seed()
    kernel.learnable = tuple(name for name in learnable.MODULES if name not in sys.modules)
    kernel.interpreter_exit = InterpreterExit()
    programs.prepare(kernel.shell)
    os.write(ready, b"1")
    os.close(ready)
    app.start()
