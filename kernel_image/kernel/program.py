"""What a Python program does as it ends, for a cell that is a whole program.

A script's interpreter waits for threads, runs `atexit` handlers and writes out the files that were
left open. A kernel does none of it after a cell, so output would be missing.
"""

import asyncio
import atexit
import contextlib
import gc
import io
import logging
import sys
import threading
import weakref
from collections.abc import MutableMapping
from typing import Any


class ProgramEnd:
    """Knows what belonged to the kernel before any user code ran, and ends only what came later."""

    def __init__(self) -> None:
        self._kernel_threads = frozenset(threading.enumerate())
        self._kernel_tasks: frozenset[asyncio.Task[Any]] = frozenset()
        atexit._clear()
        atexit.register(logging.shutdown)
        atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]
        multiprocessing = sys.modules.get("multiprocessing.util")
        if multiprocessing is not None:
            atexit.register(multiprocessing._exit_function)

    def begin(self) -> None:
        """The program begins: what the event loop has to do by now is the kernel's."""
        self._kernel_tasks = frozenset(asyncio.all_tasks())

    def _user_threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in self._kernel_threads]

    def finish(self, namespace: MutableMapping[str, Any]) -> None:
        """Wait for threads, run exit handlers, close what `namespace` holds, flush the rest."""
        for shut_down in reversed(threading._threading_atexits):  # type: ignore[attr-defined]
            shut_down()
        for thread in self._user_threads():
            if not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        pending = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        for task in pending - self._kernel_tasks:
            task.cancel()
        if not self._user_threads() and pending <= self._kernel_tasks:
            namespace.clear()
        _flush_open_files()


def _flush_open_files() -> None:
    """Libraries loaded before the fork are frozen out of the collector, so this looks at few objects."""
    for thing in gc.get_objects():
        if isinstance(thing, io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom):
            with contextlib.suppress(Exception):
                thing.flush()
