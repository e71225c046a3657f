"""The kernel's stdin, stdout and stderr: real descriptors, shared with child processes.

stdout and stderr lead to pipes that the supervisor reads, so `print`, `os.write(1, ...)` and
subprocesses come out in the order they were written.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Final

_NAMES: Final = {1: "stdout", 2: "stderr"}


class OutputStream(io.TextIOWrapper):
    """Text stream onto a descriptor that hands on every write at once and can't be closed.

    At once, because a program may die without a word: what it printed before has to be out.
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
    """Installs the streams and puts them back where a program has replaced or closed them."""

    def __init__(self) -> None:
        self._copies = {number: os.dup(number) for number in _NAMES}
        self._streams = {number: OutputStream(number) for number in _NAMES}
        self.restore()
        self._set_stdin()

    @property
    def stdout(self) -> OutputStream:
        return self._streams[1]

    @property
    def own_stdout(self) -> int:
        """A descriptor of what stdout was at first."""
        return self._copies[1]

    def restore(self) -> None:
        """Undo `sys.stdout = …`, `os.close(1)`, `os.dup2(…, 1)`; flush what was put in their place."""
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
        """Let descriptor 0, `sys.stdin` and `input()` give `text` and then end of file; None is empty.

        An anonymous file, so that child processes share the position.
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
