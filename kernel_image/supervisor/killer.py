"""Ending everything of the user's at once, however fast it forks.

kill(2) of all processes one may signal is one step for the kernel of the machine: a fork either is
over and its child is hit, or it fails. Looking for processes and killing each loses that race. The
supervisor may signal its own zygote too, so the call is made by a thread that has the user's id and
no capability. The thread is there from the start: when the user has used up the pids limit, none
can be started any more.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from kernel_image.confinement import lockdown

_POLL_SEC = 0.005
_GONE_SEC = 20.0


class Killer:
    """Ends processes of user `uid`; all in this container are the user's but those in `spared`."""

    def __init__(self, uid: int, spared: Collection[int]) -> None:
        self._spared = {str(pid) for pid in spared}
        self._thread = ThreadPoolExecutor(1, initializer=lockdown.become_in_this_thread, initargs=(uid,))
        self._thread.submit(int).result()

    def kill_all(self) -> None:
        """Send SIGKILL to all of them. They end soon: see `all_gone`."""
        self._thread.submit(_kill_all).result()

    def as_user(self, call: Callable[[], object]) -> None:
        """Make a call with the user's id and no capability."""
        self._thread.submit(call).result()

    async def all_gone(self) -> None:
        """Return when none is left.

        Raises:
            TimeoutError: some did not end.
        """
        deadline = asyncio.get_running_loop().time() + _GONE_SEC
        while self._others():
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError("processes do not end")
            await asyncio.sleep(_POLL_SEC)

    def _others(self) -> set[str]:
        return {name for name in os.listdir("/proc") if name.isdigit()} - self._spared


def _kill_all() -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
