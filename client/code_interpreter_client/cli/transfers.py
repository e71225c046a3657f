"""Progress bars for uploads and downloads of large files."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from code_interpreter_client.cli.terminal import one_line
from code_interpreter_client.http.exchange import Progress as OnProgress

_LARGE_BYTES = 1 << 20
"""Smaller files get no progress bar."""


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(
        *columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()
    )


@contextmanager
def sending(path: Path) -> Iterator[BinaryIO]:
    """Open a file for upload, and show the progress."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < _LARGE_BYTES:
            yield file
            return
        with _bar() as bar, bar.wrap_file(file, size, description=_label(path.name)) as counted:
            yield counted


@contextmanager
def receiving(name: str, size_bytes: int | None) -> Iterator[OnProgress | None]:
    """Yield the progress callback for a download, or None if the file is small."""

    if size_bytes is not None and size_bytes < _LARGE_BYTES:
        yield None
        return
    with _bar() as bar:
        task = bar.add_task(_label(name), total=size_bytes)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _label(name: str) -> str:
    return one_line(name).replace("[", "\\[")
