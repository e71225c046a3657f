"""The supervisor's side of the zygote: ask for forks, hear when they end."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from kernel_image import contract


def _environment() -> dict[str, str]:
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
    }


class ForkFailed(Exception):
    """There is no room for another process."""


class Forks:
    """Processes of the user, forked from one zygote. One fork at a time."""

    def __init__(self) -> None:
        self._prepared = False
        self._preloaded = asyncio.Event()
        self._on_exit: dict[int, Callable[[int], None]] = {}
        self._started: asyncio.Future[int] | None = None
        self._next_on_exit: Callable[[int], None]
        self._one_at_a_time = asyncio.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self.zygote = subprocess.Popen(
            [sys.executable, "-I", "-m", "kernel_image.kernel.zygote", str(theirs.fileno())],
            env=_environment(),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        asyncio.get_running_loop().add_reader(self._control, self._heard)

    def _heard(self) -> None:
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
                self._preloaded.set()
            case "started" if self._started is not None:
                # Here, so that an end told in the very next message finds its listener.
                self._on_exit[message["pid"]] = self._next_on_exit
                self._started.set_result(message["pid"])
            case "failed" if self._started is not None:
                self._started.set_exception(ForkFailed(message["error"]))
            case "exited":
                on_exit = self._on_exit.pop(message["pid"], None)
                if on_exit is not None:
                    on_exit(os.waitstatus_to_exitcode(message["status"]))

    async def prepare(self, preload: Sequence[str]) -> None:
        """Have the zygote import those modules and build a kernel, if it has not done so before."""
        if not self._prepared:
            self._prepared = True
            self._control.send(json.dumps({"preload": list(preload)}).encode())
        await self._preloaded.wait()

    async def fork(
        self, request: dict[str, Any], descriptors: Sequence[int], on_exit: Callable[[int], None]
    ) -> int:
        """Have the zygote fork, see `kernel_image.kernel.zygote` for `request`; returns the process id.

        `on_exit` is called with the status when it ends, negative for a signal.

        Raises:
            ForkFailed: no process, so nothing will end.
        """
        await self._preloaded.wait()
        async with self._one_at_a_time:
            self._started = asyncio.get_running_loop().create_future()
            self._next_on_exit = on_exit
            socket.send_fds(self._control, [json.dumps(request).encode()], list(descriptors))
            return await self._started
