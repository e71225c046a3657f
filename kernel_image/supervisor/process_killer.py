"""Kills all processes of the user at once, however fast they fork.

kill(-1) is atomic in the Linux kernel: a concurrent fork either is complete, and its child gets the
signal, or it fails. Listing processes and killing each of them loses that race. The supervisor
itself may also signal its own zygote, so a thread that acts as the user makes the call. User code
cannot signal or change this thread. The thread exists from the start: none can be started after user
code has used up the pids limit.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kernel_image import contract
from kernel_image.confinement import privileges

T = TypeVar("T")

_POLL_SEC = 0.005
_GONE_TIMEOUT_SEC = 20.0
_ROUNDS = 10
"""How often processes are listed and killed, because some may have been forked meanwhile."""


class ProcessKiller:
    """Kills the processes of user `uid`: all processes in this container except those in `spared`."""

    def __init__(self, uid: int, spared: Collection[int]) -> None:
        self._spared = {str(pid) for pid in spared}
        self._user_thread = ThreadPoolExecutor(
            1,
            initializer=privileges.act_as_user_in_this_thread,
            initargs=(uid, contract.KILLER_USER_ID),
        )
        # The executor starts its thread with the first call.
        self._user_thread.submit(int).result()

    def signal_all(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to all of the user's processes. `wait_until_gone` waits until SIGKILL has worked."""
        self._user_thread.submit(_signal, -1, number).result()

    def kill_all_but(self, pid: int | None) -> bool:
        """Send SIGKILL to the user's processes except `pid`; return whether there were any.

        A process that forks all the time may escape: only `signal_all` is atomic.
        """
        found = False
        for _ in range(_ROUNDS):
            others = self._user_pids() - {str(pid)}
            if not others:
                break
            found = True
            for other in others:
                self._user_thread.submit(_signal, int(other), signal.SIGKILL).result()
        return found

    def call_as_user(self, call: Callable[[], T]) -> T:
        """Make a call with the user's rights: as the effective user, without an effective capability."""
        return self._user_thread.submit(call).result()

    async def wait_until_gone(self) -> None:
        """Wait until none of the user's processes is left.

        Raises:
            TimeoutError: some are left after 20 seconds.
        """
        deadline = asyncio.get_running_loop().time() + _GONE_TIMEOUT_SEC
        while self._user_pids():
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"processes did not end within {_GONE_TIMEOUT_SEC:.0f} s of SIGKILL")
            await asyncio.sleep(_POLL_SEC)

    def _user_pids(self) -> set[str]:
        return {name for name in os.listdir("/proc") if name.isdigit()} - self._spared


def _signal(pid: int, number: int) -> None:
    """Send a signal to a process, or with -1 to all that this thread may signal."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
