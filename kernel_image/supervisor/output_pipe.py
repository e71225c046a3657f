"""Pipes through which the supervisor reads what a process of the user writes."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable

_PIPE_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_F_SETPIPE_SZ = 1031


class OutputPipe:
    """The supervisor's end of a pipe that a process of the user writes to.

    Attributes:
        writer: descriptor of the writing end, for the process.
    """

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        """Open a pipe. `on_data` is called with each piece that is read from it."""
        self._on_data = on_data
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        # A larger pipe is faster, but the machine allows one user only a limited number of them.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._reader, _F_SETPIPE_SZ, _PIPE_BYTES)
        asyncio.get_running_loop().add_reader(self._reader, self._read)

    def _read(self) -> bool:
        """Read once and pass the data on; return False if the pipe is empty, or has ended."""
        try:
            data = os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self._on_data(data)
        return True

    def drain(self) -> None:
        """Pass on everything that was written before this call. The number of reads is bounded."""
        for _ in range(2 * _PIPE_BYTES // _READ_BYTES):
            if self._reader < 0 or not self._read():
                return

    def close_writer(self) -> None:
        """Close the supervisor's copy of the writing end, so that the pipe ends with the process."""
        os.close(self.writer)

    def close(self) -> None:
        if self._reader >= 0:
            asyncio.get_running_loop().remove_reader(self._reader)
            os.close(self._reader)
            self._reader = -1
