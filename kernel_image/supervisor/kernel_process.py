"""The kernel and the shell commands of a container, as the supervisor sees them."""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial

from kernel_image import contract
from kernel_image.confinement import cgroup
from kernel_image.supervisor.cell import OutputPipe
from kernel_image.supervisor.forks import ForkFailed, Forks
from kernel_image.supervisor.killer import Killer
from kernel_image.supervisor.scrub import NotClean, Scrub

_START_SEC = 60.0
_LAST_WORDS_BYTES = 2000
_LINE_BYTES = 1 << 25

OnOutput = Callable[[int, bytes], None]
OnExit = Callable[[int], None]


class KernelFailed(Exception):
    """The kernel did not come up; the message says what it last wrote."""


class UserProcess:
    """A process of the user's whose stdout and stderr are ours.

    `on_output(kind, data)` gets its text, `on_exit(status)` its end, negative for a signal.
    """

    def __init__(self, forks: Forks, on_output: OnOutput, on_exit: OnExit) -> None:
        self.pid: int | None = None
        self._forks = forks
        self._on_exit = on_exit
        kinds = (contract.FRAME_STDOUT, contract.FRAME_STDERR)
        self.pipes = [OutputPipe(partial(on_output, kind)) for kind in kinds]
        self.gone = asyncio.Event()

    async def fork(self, request: dict[str, object], *descriptors: int) -> None:
        """Start it; `descriptors` follow its stdout and stderr. Raises `ForkFailed`."""
        writers = [pipe.writer for pipe in self.pipes[:2]]
        try:
            self.pid = await self._forks.fork(request, [*writers, *descriptors], self._ended)
        except ForkFailed:
            for pipe in self.pipes:
                pipe.close()
            raise
        finally:
            for pipe in self.pipes:
                pipe.handed_over()
        if self.gone.is_set():
            self.pid = None

    def drain(self) -> None:
        """Pass on everything written before this call."""
        for pipe in self.pipes:
            pipe.drain()

    def _ended(self, status: int) -> None:
        self.pid = None
        self.drain()
        for pipe in self.pipes:
            pipe.close()
        self.gone.set()
        self._on_exit(status)

    def signal(self, number: int) -> None:
        """Send a signal to the process and its group; nothing if it is gone."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class KernelProcess:
    """At most one kernel at a time. `on_event(payload)` gets the lines of its journal."""

    def __init__(
        self,
        forks: Forks,
        on_output: OnOutput,
        on_event: Callable[[bytes], None],
        on_exit: OnExit,
        *,
        behind_relay: bool = False,
    ) -> None:
        """`behind_relay`: the kernel listens on other ports than the contract's, see `relay.py`."""
        self._port_offset = contract.INNER_OFFSET if behind_relay else 0
        self.idle_bytes = self._least_idle_bytes = 0
        self._forks = forks
        self._killer = Killer(contract.USER_ID, spared=(os.getpid(), forks.zygote.pid))
        self._scrub: Scrub | None = None
        self._on_output = on_output
        self._on_event = on_event
        self._on_exit = on_exit
        self._process: UserProcess | None = None
        self._is_doomed = False
        self._answers = -1
        self._line = b""
        self._last_words = b""
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """None where there is no kernel, or none that lives on."""
        return None if self._process is None or self._is_doomed else self._process.pid

    async def start(self, key: str, preload: Sequence[str] = (), idle_bytes: int = 0) -> None:
        """Fork a kernel signed with `key` and wait until it listens, in place of any other.

        The first one decides what is preloaded. What a kernel holds up to `idle_bytes`, here and in
        later ones, is not the user's: one that has preloaded less imports it later.

        Raises:
            KernelFailed: it died or took too long.
        """
        async with self._starting:
            await self._forks.prepare(preload)
            self._scrub = self._scrub or Scrub(self._killer, self._forks.zygote.pid)
            try:
                await self.kill()
            except TimeoutError as error:
                raise KernelFailed(str(error)) from error
            try:
                async with asyncio.timeout(_START_SEC):
                    answered = await self._start(key)
            except TimeoutError as error:
                raise KernelFailed(f"no answer within {_START_SEC:.0f} s") from error
            except ForkFailed as error:
                raise KernelFailed(str(error)) from error
            if not answered:
                raise KernelFailed("it ended while starting: " + self._last_words.decode("utf-8", "replace"))
            self._least_idle_bytes = max(self._least_idle_bytes, idle_bytes)
            self.idle_bytes = max(self._least_idle_bytes, cgroup.process_bytes())

    async def scrub(self) -> None:
        """End the kernel and make the container as it was before the first one.

        Raises:
            NotClean: it is not.
        """
        if self._scrub is None:
            raise NotClean("there was no kernel yet")
        try:
            await self.kill()
        except TimeoutError as error:
            raise NotClean(str(error)) from error
        self._scrub.run()

    async def _start(self, key: str) -> bytes:
        self._last_words = self._line = b""
        self._process = process = UserProcess(self._forks, self._output, self._exited)
        self._is_doomed = False
        journal = OutputPipe(self._journal)
        process.pipes.append(journal)
        ready, ready_writer = os.pipe2(os.O_CLOEXEC)
        answers, self._answers = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._answers, False)
        try:
            request: dict[str, object] = {"kernel": key, "port_offset": self._port_offset}
            await process.fork(request, ready_writer, journal.writer, answers)
        except ForkFailed:
            os.close(ready)
            self._close_answers()
            raise
        finally:
            os.close(ready_writer)
            os.close(answers)
        return await _read_byte(ready)

    def _close_answers(self) -> None:
        os.close(self._answers)
        self._answers = -1

    def _output(self, kind: int, data: bytes) -> None:
        self._last_words = (self._last_words + data)[-_LAST_WORDS_BYTES:]
        self._on_output(kind, data)

    def _journal(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        self._line = self._line[:_LINE_BYTES]
        for line in lines:
            self._on_event(line)

    def tell(self, entry: dict[str, str]) -> None:
        """Tell the kernel what it waits for, see `kernel_image.kernel.journal`.

        Raises:
            OSError: there is no kernel, or it does not read.
        """
        os.write(self._answers, json.dumps(entry).encode() + b"\n")

    def drain(self) -> None:
        """Pass on everything the kernel wrote before this call."""
        if self._process is not None:
            self._process.drain()

    def _exited(self, status: int) -> None:
        """Nothing of the user's outlives the kernel."""
        self._close_answers()
        self._killer.kill_all()
        self._on_exit(status)

    def signal(self, number: int) -> None:
        """Send a signal to the kernel and its process group; nothing if there is none."""
        if self._process is not None:
            self._process.signal(number)

    def kill_all(self) -> None:
        """Kill the kernel and every other process of the user; they end soon."""
        self._is_doomed = True
        self._killer.kill_all()

    async def kill(self) -> None:
        """Kill the kernel and every other process of the user, and wait for their end."""
        self.kill_all()
        if self._process is not None and self._process.pid is not None:
            await self._process.gone.wait()
        await self._killer.all_gone()


async def _read_byte(descriptor: int) -> bytes:
    """Wait for a byte, or for the end (b"") of a pipe, and close it."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
        return os.read(descriptor, 1)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
