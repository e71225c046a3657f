"""The pipe through which the supervisor sends commands to the kernel."""

import asyncio
import errno
import os
from typing import Final

_MOST_BYTES: Final = 1 << 26
"""Most bytes that wait for the kernel to read them. An answer to a request for input may be large."""


class CommandPipe:
    """The supervisor's end of the pipe. What the pipe does not take at once is written later.

    Attributes:
        reader: descriptor of the reading end, for the kernel.
    """

    def __init__(self) -> None:
        """Open the pipe. Raises `OSError` if there is no descriptor left."""
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._writer, False)
        self._unwritten = bytearray()

    def send(self, data: bytes) -> None:
        """Write `data`, now or when the kernel reads.

        Raises:
            OSError: the kernel has ended, or does not read.
        """
        if len(self._unwritten) + len(data) > _MOST_BYTES:
            raise OSError(errno.ENOBUFS, "the kernel does not read its commands")
        self._unwritten += data
        self._write()
        if self._unwritten:
            asyncio.get_running_loop().add_writer(self._writer, self._write_rest)

    def _write(self) -> None:
        try:
            while self._unwritten:
                del self._unwritten[: os.write(self._writer, self._unwritten)]
        except BlockingIOError:
            return

    def _write_rest(self) -> None:
        try:
            self._write()
        except OSError:
            # The kernel has closed its end, so nothing reads the rest.
            self._unwritten.clear()
        if not self._unwritten:
            asyncio.get_running_loop().remove_writer(self._writer)

    def close_reader(self) -> None:
        """Close the supervisor's copy of the reading end, so that only the kernel has one."""
        os.close(self.reader)

    def close(self) -> None:
        """Close the writing end, and drop what is unwritten."""
        asyncio.get_running_loop().remove_writer(self._writer)
        os.close(self._writer)
