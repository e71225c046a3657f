"""Notices each pseudo-terminal that is opened in the container.

All containers of a machine share 3,072 of them, and a program opens two thousand in a fiftieth of a second.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final

from kernel_image.confinement.libc import checked, libc
from kernel_image.supervisor.process_killer import ProcessKiller

_FOLDER: Final = "/dev/pts"
_IN_CREATE: Final = 0x100
_EVENTS_BYTES: Final = 1 << 16


def count_terminals() -> int:
    """Return the number of pseudo-terminals in the container."""
    return sum(name.isdecimal() for name in os.listdir(_FOLDER))


def watch_terminals(killer: ProcessKiller, on_open: Callable[[], None]) -> None:
    """Call `on_open` in the running event loop whenever pseudo-terminals have been opened.

    Linux limits inotify instances by user. `killer` opens this one as the container's user, because root has
    no more of them than a user, for all containers together.

    Raises:
        OSError: the Linux kernel refused the watch.
    """
    loop = asyncio.get_running_loop()

    def read() -> None:
        os.read(descriptor, _EVENTS_BYTES)
        on_open()

    descriptor = killer.call_as_user(_open_watch)
    loop.add_reader(descriptor, read)


def _open_watch() -> int:
    descriptor = checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")
    checked(libc.inotify_add_watch(descriptor, _FOLDER.encode(), _IN_CREATE), "inotify_add_watch")
    return descriptor
