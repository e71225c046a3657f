"""The kernel's stdin, stdout and stderr: real descriptors, shared with child processes.

stdout and stderr are pipes that the supervisor reads. So the output of `print`, `os.write(1, ...)` and
subprocesses arrives in the order in which it was written.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Final

_NAMES: Final = {1: "stdout", 2: "stderr"}


class OutputStream(io.TextIOWrapper):
    """Text stream onto a descriptor that flushes every write and cannot be closed.

    Every write is flushed, because a program may die at any moment and its output must not be lost.
    """

    def __init__(self, descriptor: int) -> None:
        buffer = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", newline="\n")

    def write(self, text: str, /) -> int:
        count = super().write(text)
        super().flush()
        return count

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().flush()

    def close(self) -> None:
        self.flush()


class StandardStreams:
    """Installs the kernel's streams, and reinstalls those that a program has replaced or closed."""

    def __init__(self) -> None:
        self._copies = {number: os.dup(number) for number in _NAMES}
        self._streams = {number: OutputStream(number) for number in _NAMES}
        self.restore()
        self._set_stdin()

    @property
    def stdout(self) -> OutputStream:
        return self._streams[1]

    @property
    def original_stdout(self) -> int:
        """A second descriptor of the stdout pipe, which redirection of descriptor 1 does not change."""
        return self._copies[1]

    def restore(self) -> None:
        """Undo `sys.stdout = …`, `os.close(1)` and `os.dup2(…, 1)`. Flush the program's own streams first."""
        for number, name in _NAMES.items():
            replaced = getattr(sys, name)
            if replaced is not self._streams[number]:
                with contextlib.suppress(Exception):
                    replaced.flush()
            self._streams[number].flush()
            os.dup2(self._copies[number], number)
            vars(sys).update({name: self._streams[number], f"__{name}__": self._streams[number]})

    @staticmethod
    def _set_stdin() -> None:
        reader = io.FileIO(0, closefd=False)
        stdin = io.TextIOWrapper(io.BufferedReader(reader), encoding="utf-8", errors="replace")
        vars(sys).update(stdin=stdin, __stdin__=stdin)

    @contextlib.contextmanager
    def stdin(self, text: str | None) -> Iterator[None]:
        """Let descriptor 0, `sys.stdin` and `input()` read `text` and then end of file; None is empty.

        The text is in an anonymous file, so that child processes share the read position.
        """
        if text:
            file = os.memfd_create("stdin")
            with open(file, "wb", closefd=False) as writer:
                writer.write(text.encode("utf-8", "replace"))
            os.lseek(file, 0, os.SEEK_SET)
            os.dup2(file, 0)
            os.close(file)
        self._set_stdin()
        try:
            yield
        finally:
            null = os.open("/dev/null", os.O_RDONLY)
            os.dup2(null, 0)
            if null:
                os.close(null)
