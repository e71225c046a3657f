"""The supervisor's side of the zygote: it starts the zygote, asks for forks, and learns of their exits."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from kernel_image import contract

FORK: Final = b"fork"
"""Message to the zygote that comes with descriptors; the first is that of a file with the request."""


def _environment(user_id: int) -> dict[str, str]:
    """Return the environment of the user's code. Nothing else of PID 1's own environment gets into it."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "MATPLOTLIBRC") if name in os.environ}
    return kept | {
        "HOME": contract.HOME,
        "USER": contract.user_name(user_id),
        "SHELL": "/bin/bash",
        "IPYTHONDIR": f"{contract.HOME}/.ipython",
        "MPLCONFIGDIR": f"{contract.HOME}/.config/matplotlib",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class ForkFailed(Exception):
    """There is no new process; the message has the reason, such as no room for another process."""

    @classmethod
    def by(cls, error: OSError) -> "ForkFailed":
        """Return the failure that an error of the operating system has caused."""
        return cls(f"the process cannot be started: {error.strerror or error}")


class ZygoteClient:
    """Starts the zygote and has it fork processes of the user, one at a time.

    Attributes:
        pid: the zygote's process id.
        user_id: uid and gid of the processes.
    """

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self._preload_requested = False
        self.failed_preloads: tuple[str, ...] = ()
        self._preloaded = asyncio.Event()
        self._on_exit: dict[int, Callable[[int], None]] = {}
        self._started: asyncio.Future[int] | None = None
        self._next_on_exit: Callable[[int], None]
        self._fork_lock = asyncio.Lock()
        self._control, zygote_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._zygote = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-m",
                "kernel_image.kernel.zygote",
                str(zygote_end.fileno()),
                str(user_id),
            ],
            env=_environment(user_id),
            pass_fds=[zygote_end.fileno()],
            stdin=subprocess.DEVNULL,
        )
        self.pid = self._zygote.pid
        zygote_end.close()
        asyncio.get_running_loop().add_reader(self._control, self._receive)

    def _receive(self) -> None:
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
                self.failed_preloads = tuple(message["failed"])
                self._preloaded.set()
            case "started" if self._started is not None:
                # Registered here and not in `fork`: the very next message may report the exit.
                self._on_exit[message["pid"]] = self._next_on_exit
                self._started.set_result(message["pid"])
            case "failed" if self._started is not None:
                self._started.set_exception(ForkFailed(message["error"]))
            case "exited":
                on_exit = self._on_exit.pop(message["pid"], None)
                if on_exit is not None:
                    on_exit(os.waitstatus_to_exitcode(message["status"]))

    async def prepare(self, preload: Sequence[str]) -> None:
        """Have the zygote import the modules `preload` and build a kernel. Only the first call decides."""
        if not self._preload_requested:
            self._preload_requested = True
            self._control.send(json.dumps({"preload": list(preload)}).encode())
        await self._preloaded.wait()

    async def fork(
        self, request: dict[str, Any], descriptors: Sequence[int], on_exit: Callable[[int], None]
    ) -> int:
        """Have the zygote fork a process, and return its process id.

        Args:
            request: the request to the zygote, see `kernel_image.kernel.zygote`.
            descriptors: file descriptors for the new process, as the request needs them.
            on_exit: called with the exit status, negative for a signal, when the process ends.

        Raises:
            ForkFailed: there is no new process; `on_exit` is not called.
        """
        await self._preloaded.wait()
        async with self._fork_lock:
            self._started = asyncio.get_running_loop().create_future()
            self._next_on_exit = on_exit
            try:
                with _written_to_memory(json.dumps(request).encode()) as file:
                    socket.send_fds(self._control, [FORK], [file, *descriptors])
            except OSError as error:
                self._started = None
                raise ForkFailed.by(error) from error
            return await self._started


@contextlib.contextmanager
def _written_to_memory(content: bytes) -> Iterator[int]:
    """Give a file in memory with this content. A message on the socket has a limit, a file has none."""
    descriptor = os.memfd_create("request")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield descriptor
    finally:
        os.close(descriptor)
