"""The kernel's stdin, stdout and stderr: real descriptors, shared with child processes.

stdout and stderr are pipes that the supervisor reads. So the output of `print`, `os.write(1, ...)` and
subprocesses arrives in the order in which it was written.
"""

import contextlib
import errno
import io
import os
import sys
import weakref
from collections.abc import Iterator
from typing import Any, Final

from kernel_image.kernel.marks import MarkWriter

_NAMES: Final = {1: "stdout", 2: "stderr"}


class _Descriptor(io.FileIO):
    """A standard descriptor. Closing the streams that user code made of it does nothing.

    ``copy`` is another descriptor of the same pipe: it serves again if user code has closed this one.
    """

    def __init__(self, number: int, mode: str, copy: int) -> None:
        super().__init__(number, mode, closefd=False)
        self._number = number
        self._copy = copy

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
        os.dup2(self._copy, self._number)
        return super().write(data)

    def close(self) -> None:
        pass


class _Buffer(io.BufferedWriter):
    """The buffer of an output stream, which cannot be closed either."""

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.flush()


class OutputStream(io.TextIOWrapper):
    """Text stream onto a descriptor that flushes every write and cannot be closed.

    Every write is flushed, because a program may die at any moment and its output must not be lost.
    """

    def __init__(self, descriptor: int, copy: int, marks: MarkWriter) -> None:
        buffer = _Buffer(_Descriptor(descriptor, "w", copy))
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", newline="\n")
        self._number = descriptor
        self._marks = marks

    def write(self, text: str, /) -> int:
        self._marks.stream_is_used(self._number)
        count = super().write(text)
        super().flush()
        return count

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().flush()

    def close(self) -> None:
        self.flush()


class StandardStreams:
    """Installs the kernel's streams. After each cell it installs new ones.

    A program may replace, wrap, close, detach or reconfigure a stream, and the next cell must not notice.
    """

    def __init__(self, key: str) -> None:
        """`key` is the key of the kernel."""
        self._copies = {number: os.dup(number) for number in _NAMES}
        self.marks = MarkWriter(key, self._copies[1], self._copies[2])
        # Kept open, so that a program that takes all descriptors leaves what the kernel needs.
        self._null = os.open(os.devnull, os.O_RDONLY)
        self._writers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._streams: dict[int, OutputStream] = {}
        self.restore()
        self._set_stdin()

    @property
    def stdout(self) -> OutputStream:
        return self._streams[1]

    def restore(self) -> None:
        """Undo `sys.stdout = …`, `os.close(1)` and `os.dup2(…, 1)`. Flush the program's own streams first."""
        for name in _NAMES.values():
            self._flush_at_end(getattr(sys, name, None))
        for writer in list(self._writers):
            with contextlib.suppress(Exception):
                writer.flush()
        for number, name in _NAMES.items():
            os.dup2(self._copies[number], number)
            self._streams[number] = stream = OutputStream(number, self._copies[number], self.marks)
            self._flush_at_end(stream.buffer)
            vars(sys).update({name: stream, f"__{name}__": stream})

    def _flush_at_end(self, writer: object) -> None:
        """Flush a writer at the end of each cell while it exists: later cells may write to it, too."""
        with contextlib.suppress(TypeError):  # not every object can be referred to weakly
            self._writers.add(writer)

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
            os.close(self._null)
            file = os.memfd_create("stdin")
            with open(file, "wb", closefd=False) as writer:
                writer.write(text.encode("utf-8", "replace"))
            os.lseek(file, 0, os.SEEK_SET)
            os.dup2(file, 0)
            os.close(file)
            self._null = os.open(os.devnull, os.O_RDONLY)
        self._set_stdin()
        try:
            yield
        finally:
            os.dup2(self._null, 0)
