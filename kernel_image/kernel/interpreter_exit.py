"""The work of a Python interpreter at exit, for a cell that is a whole program.

At the end of a script the interpreter waits for threads, runs `atexit` handlers and flushes open
files. A kernel does none of this after a cell, so output would be missing.
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


class InterpreterExit:
    """Does the work of an interpreter's exit for user code, and leaves the kernel's own parts alone.

    Created before any user code runs. It remembers the kernel's threads, and discards the `atexit`
    handlers that the kernel has registered.
    """

    def __init__(self) -> None:
        self._kernel_threads = frozenset(threading.enumerate())
        self._kernel_tasks: frozenset[asyncio.Task[Any]] = frozenset()
        atexit._clear()
        atexit.register(logging.shutdown)
        atexit.register(weakref.finalize._exitfunc)  # type: ignore[attr-defined]
        multiprocessing = sys.modules.get("multiprocessing.util")
        if multiprocessing is not None:
            atexit.register(multiprocessing._exit_function)

    def remember_kernel_tasks(self) -> None:
        """Remember the event loop's present tasks as the kernel's. Called before the program runs."""
        self._kernel_tasks = frozenset(asyncio.all_tasks())

    def _user_threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in self._kernel_threads]

    def run(self, namespace: MutableMapping[str, Any]) -> None:
        """Wait for threads, run exit handlers, clear the program's `namespace`, and flush open files."""
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
    """Flush all open files. The search is short, because objects from before the fork are frozen."""
    for thing in gc.get_objects():
        if isinstance(thing, io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom):
            with contextlib.suppress(Exception):
                thing.flush()
