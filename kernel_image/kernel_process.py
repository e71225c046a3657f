"""The supervisor's view of the zygote and of the kernel forked from it."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from kernel_image import cgroup, contract
from kernel_image.cell import OutputPipe

_START_SEC = 60.0


class KernelFailed(Exception):
    """The kernel did not come up; the message says what it last wrote."""


def _zygote_environment(preload: str) -> dict[str, str]:
    """The environment of the user's code: nothing of PID 1's own is in it."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "MATPLOTLIBRC") if name in os.environ}
    return kept | {
        "HOME": contract.HOME,
        "USER": "user",
        "SHELL": "/bin/bash",
        "IPYTHONDIR": f"{contract.HOME}/.ipython",
        "MPLCONFIGDIR": f"{contract.HOME}/.config/matplotlib",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        contract.PRELOAD_VARIABLE: preload,
    }


class KernelProcess:
    """At most one kernel at a time; `on_output(kind, data)` and `on_exit(status)` tell of it.

    `status` is negative for a signal, as in `subprocess.Popen.returncode`.
    """

    def __init__(self, preload: str) -> None:
        self.on_output: Callable[[int, bytes], None] = lambda kind, data: None
        self.on_exit: Callable[[int], None] = lambda status: None
        self.pid: int | None = None
        self.preloaded = False
        self.idle_bytes = 0
        self._preload_done = asyncio.Event()
        self._forked = asyncio.Event()
        self._pipes: list[OutputPipe] = []
        self._gone = asyncio.Event()
        self._last_words = b""
        self._starting = asyncio.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self.zygote = subprocess.Popen(
            [sys.executable, "-I", "-m", "kernel_image.zygote", str(theirs.fileno())],
            env=_zygote_environment(preload),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        asyncio.get_running_loop().add_reader(self._control, self._zygote_said)

    def _zygote_said(self) -> None:
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._control)
            return
        message = json.loads(data)
        match message["event"]:
            case "preloaded":
                self.preloaded = True
                self._preload_done.set()
            case "started":
                self.pid = message["pid"]
                self._forked.set()
            case "exited" if message["pid"] == self.pid:
                self._finish(os.waitstatus_to_exitcode(message["status"]))

    async def start(self, key: str) -> None:
        """Fork a kernel signed with `key` and wait until it listens, in place of any other.

        Raises:
            KernelFailed: it died or took too long.
        """
        async with self._starting:
            await self.kill()
            try:
                async with asyncio.timeout(_START_SEC):
                    await self._preload_done.wait()
                    ready = await self._fork(key)
                    answered = await _read_byte(ready)
            except TimeoutError as error:
                raise KernelFailed(f"no answer within {_START_SEC:.0f} s") from error
            self.idle_bytes = cgroup.anonymous_bytes()
            if not answered:
                raise KernelFailed("it ended while starting: " + self._last_words.decode("utf-8", "replace"))

    async def _fork(self, key: str) -> int:
        """Have the zygote fork; returns the reading end of the pipe on which the kernel says it is ready."""
        self._pipes = [
            OutputPipe(kind, self._output) for kind in (contract.FRAME_STDOUT, contract.FRAME_STDERR)
        ]
        ready, ready_writer = os.pipe2(os.O_CLOEXEC)
        descriptors = [*(pipe.writer for pipe in self._pipes), ready_writer]
        self._gone.clear()
        self._forked.clear()
        self._last_words = b""
        socket.send_fds(self._control, [json.dumps({"key": key}).encode()], descriptors)
        os.close(ready_writer)
        for pipe in self._pipes:
            pipe.handed_over()
        await self._forked.wait()
        return ready

    def _output(self, kind: int, data: bytes) -> None:
        self._last_words = (self._last_words + data)[-2000:]
        self.on_output(kind, data)

    def drain(self) -> None:
        """Pass on everything written to stdout and stderr before this call."""
        for pipe in self._pipes:
            pipe.drain()

    def _finish(self, status: int) -> None:
        """The kernel is dead: nothing of the user's survives it, and its last output is read."""
        self.pid = None
        self._kill_all()
        self.drain()
        for pipe in self._pipes:
            pipe.close()
        self._gone.set()
        self.on_exit(status)

    def signal(self, number: int) -> None:
        """Send a signal to the kernel and its process group; nothing if there is none."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def kill(self) -> None:
        """Kill the kernel and every other process of the user, and wait for the kernel's end."""
        if self.pid is not None:
            self._kill_all()
            await self._gone.wait()

    @staticmethod
    def _kill_all() -> None:
        """Until none is left: a program that forks faster than it is killed is caught by the pids limit."""
        for _ in range(100):
            victims = cgroup.processes_of(contract.USER_ID)
            if not victims:
                return
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


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
