"""The kernel and the shell commands of a container, as processes that the supervisor starts and ends."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial

from kernel_image import contract
from kernel_image.confinement import cgroup
from kernel_image.supervisor.command_pipe import CommandPipe
from kernel_image.supervisor.event_lines import EventLines
from kernel_image.supervisor.marks import MarkedOutput
from kernel_image.supervisor.output_pipe import OutputPipe
from kernel_image.supervisor.process_killer import ProcessKiller
from kernel_image.supervisor.scrub.not_clean import NotClean
from kernel_image.supervisor.scrub.scrub import Scrub
from kernel_image.supervisor.zygote_client import ForkFailed, ZygoteClient

_START_TIMEOUT_SEC = 60.0
_LAST_OUTPUT_BYTES = 2000

OnOutput = Callable[[int, bytes], None]
OnExit = Callable[[int], None]


class KernelFailed(Exception):
    """The kernel did not start; the message has the reason or the kernel's last output."""


class UserProcess:
    """A process of the user whose stdout and stderr the supervisor reads.

    Attributes:
        pid: its process id; None before its start and after its end.
        pipes: stdout and stderr, and further pipes that `add_pipe` has added before `fork`.
        gone: set when the process has ended.
    """

    def __init__(self, zygote: ZygoteClient, on_output: OnOutput, on_exit: OnExit) -> None:
        """Open the pipes.

        Args:
            zygote: forks the process.
            on_output: called with the frame type and the text, for each piece of output.
            on_exit: called with the exit status, negative for a signal, after the last output.

        Raises:
            ForkFailed: there are no descriptors for the pipes.
        """
        self.pid: int | None = None
        self._zygote = zygote
        self._on_exit = on_exit
        self.pipes: list[OutputPipe] = []
        self.gone = asyncio.Event()
        for kind in (contract.FRAME_STDOUT, contract.FRAME_STDERR):
            self.add_pipe(partial(on_output, kind))

    def add_pipe(self, on_data: Callable[[bytes], None]) -> OutputPipe:
        """Open another pipe to read from. Raises `ForkFailed` if there are no descriptors for it."""
        try:
            self.pipes.append(OutputPipe(on_data))
        except OSError as error:
            self._close_pipes()
            raise ForkFailed.by(error) from error
        return self.pipes[-1]

    def _close_pipes(self) -> None:
        for pipe in self.pipes:
            pipe.close_writer()
            pipe.close()

    async def fork(self, request: dict[str, object], *descriptors: int) -> None:
        """Start the process. The zygote gets its stdout, its stderr and `descriptors`, in this order.

        Raises:
            ForkFailed: the process was not started.
        """
        writers = [pipe.writer for pipe in self.pipes[:2]]
        try:
            self.pid = await self._zygote.fork(request, [*writers, *descriptors], self._exited)
        except BaseException:
            self._close_pipes()
            raise
        for pipe in self.pipes:
            pipe.close_writer()
        if self.gone.is_set():
            self.pid = None

    def drain(self) -> None:
        """Pass on everything that the process wrote before this call."""
        for pipe in self.pipes:
            pipe.drain()

    def _exited(self, status: int) -> None:
        self.pid = None
        self.drain()
        for pipe in self.pipes:
            pipe.close()
        self.gone.set()
        self._on_exit(status)

    def signal(self, number: int) -> None:
        """Send a signal to the process and its group. Do nothing if the process has ended."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class KernelProcess:
    """The container's kernel process: at most one at a time.

    Attributes:
        idle_bytes: memory that the kernel held before it ran any user code.
        killer: kills the processes of the user.
    """

    def __init__(
        self,
        zygote: ZygoteClient,
        on_output: OnOutput,
        on_mark: Callable[[bytes], None],
        on_event: Callable[[bytes], None],
        on_exit: OnExit,
        *,
        behind_relay: bool = False,
    ) -> None:
        """Prepare; `start` starts the first kernel.

        Args:
            zygote: forks the kernels.
            on_output: called with the frame type and the text, for each piece of output.
            on_mark: called with the id of each message that the kernel has published, between the text
                before and the text after.
            on_event: called with each event line, see `kernel_image.kernel.supervisor_pipes`.
            on_exit: called with the exit status, negative for a signal.
            behind_relay: whether the kernel listens on its internal ports, see `relay.py`.
        """
        self._port_offset = contract.INTERNAL_PORT_OFFSET if behind_relay else 0
        self.idle_bytes = self._least_idle_bytes = 0
        self._zygote = zygote
        self.killer = ProcessKiller(zygote.user_id, spared=(os.getpid(), zygote.pid))
        self._scrub: Scrub | None = None
        self._on_output = on_output
        self._on_mark = on_mark
        self._on_event = on_event
        self._on_exit = on_exit
        self._process: UserProcess | None = None
        self._kill_sent = False
        self._is_ready = False
        self._commands: CommandPipe | None = None
        self._output: MarkedOutput | None = None
        self._last_output = b""
        self._start_lock = asyncio.Lock()

    @property
    def failed_preloads(self) -> tuple[str, ...]:
        """Modules that were to be preloaded and could not be imported."""
        return self._zygote.failed_preloads

    @property
    def pid(self) -> int | None:
        """The kernel's process id; None if there is no kernel, or it is being killed."""
        return None if self._process is None or self._kill_sent else self._process.pid

    async def start(self, key: str, preload: Sequence[str] = (), idle_bytes: int = 0) -> None:
        """End any present kernel, fork a new one, and wait until it listens.

        Args:
            key: signs the kernel's messages.
            preload: modules that the zygote imports. Only the first call decides.
            idle_bytes: least memory to count as the idle kernel's, now and later. A kernel that
                preloaded fewer modules imports them later, and user code must not pay for that.

        Raises:
            KernelFailed: the kernel ended, or did not listen within 60 seconds; or the first state of the
                container cannot be read.
        """
        async with self._start_lock:
            await self._zygote.prepare(preload)
            try:
                self._scrub = self._scrub or Scrub(self.killer, self._zygote.pid, self._zygote.user_id)
            except OSError as error:
                raise KernelFailed(f"the container's first state cannot be read: {error}") from error
            try:
                await self.kill()
            except TimeoutError as error:
                raise KernelFailed(str(error)) from error
            try:
                async with asyncio.timeout(_START_TIMEOUT_SEC):
                    ready = await self._fork_kernel(key)
            except TimeoutError as error:
                message = f"the kernel did not listen within {_START_TIMEOUT_SEC:.0f} s"
                raise KernelFailed(message) from error
            except ForkFailed as error:
                raise KernelFailed(str(error)) from error
            self._is_ready = bool(ready)
            if not ready:
                last_output = self._last_output.decode("utf-8", "replace")
                raise KernelFailed(f"the kernel ended while it was starting: {last_output}")
            self._least_idle_bytes = max(self._least_idle_bytes, idle_bytes)
            self.idle_bytes = max(self._least_idle_bytes, cgroup.process_bytes())

    async def scrub(self) -> None:
        """End the kernel and bring the container back to its state before the first kernel.

        Raises:
            NotClean: the container differs from that state.
        """
        if self._scrub is None:
            raise NotClean("no kernel was started yet")
        try:
            await self.kill()
        except TimeoutError as error:
            raise NotClean("processes could not be ended", error) from error
        self._scrub.run()

    async def _fork_kernel(self, key: str) -> bytes:
        """Fork a kernel; return the byte that it writes when it listens, or b"" if it ends before."""
        self._last_output = b""
        self._is_ready = False
        self._output = output = MarkedOutput(key, self._add_output, self._on_mark)
        self._process = process = UserProcess(self._zygote, output.add, self._exited)
        self._kill_sent = False
        events = process.add_pipe(EventLines(self._on_event).add)
        with contextlib.ExitStack() as at_end, contextlib.ExitStack() as at_failure:
            try:
                ready, ready_writer = os.pipe2(os.O_CLOEXEC)
                at_failure.callback(os.close, ready)
                at_end.callback(os.close, ready_writer)
                self._commands = CommandPipe()
            except OSError as error:
                raise ForkFailed.by(error) from error
            at_failure.callback(self._close_commands)
            at_end.callback(self._commands.close_reader)
            request: dict[str, object] = {"kernel": key, "port_offset": self._port_offset}
            await process.fork(request, ready_writer, events.writer, self._commands.reader)
            at_failure.pop_all()
        return await _read_byte(ready)

    def _close_commands(self) -> None:
        if self._commands is not None:
            self._commands.close()
            self._commands = None

    def _add_output(self, kind: int, data: bytes) -> None:
        self._last_output = (self._last_output + data)[-_LAST_OUTPUT_BYTES:]
        self._on_output(kind, data)

    def send_command(self, command: dict[str, str]) -> None:
        """Send the kernel a command, see `kernel_image.kernel.supervisor_pipes`.

        Raises:
            OSError: there is no kernel, or it does not read.
        """
        if self._commands is None:
            raise ProcessLookupError("there is no kernel")
        self._commands.send(json.dumps(command).encode() + b"\n")

    def drain(self) -> None:
        """Pass on everything that the kernel wrote before this call."""
        if self._process is not None and self._output is not None:
            self._process.drain()
            self._output.flush()

    def _exited(self, status: int) -> None:
        self._close_commands()
        # The user's other processes must not outlive the kernel.
        self.killer.signal_all()
        if self._output is not None:
            self._output.flush()
        self._on_exit(status)

    def signal(self, number: int) -> None:
        """Send a signal to the kernel and its process group. Do nothing if there is no kernel.

        A kernel that is starting gets no SIGINT: that was meant for an earlier one, and would end it.
        """
        if self._process is not None and (self._is_ready or number != signal.SIGINT):
            self._process.signal(number)

    def kill_all(self) -> None:
        """Send SIGKILL to the kernel and every other process of the user, without waiting."""
        self._kill_sent = True
        self.killer.signal_all()

    def interrupt_all(self) -> None:
        """Send SIGINT to the kernel, which ignores it while it is idle, and to every other process."""
        self.killer.signal_all(signal.SIGINT)

    def kill_all_others(self) -> bool:
        """Send SIGKILL to every process of the user except the kernel; return whether there were any."""
        return self.killer.kill_all_but(self.pid)

    async def kill(self) -> None:
        """Kill the kernel and every other process of the user, and wait for their end.

        Raises:
            TimeoutError: some of them did not end.
        """
        self.kill_all()
        if self._process is not None and self._process.pid is not None:
            await self._process.gone.wait()
        await self.killer.wait_until_gone()


async def _read_byte(descriptor: int) -> bytes:
    """Wait for a byte from a pipe, or for its end (b""). Close the descriptor afterwards."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
        return os.read(descriptor, 1)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
