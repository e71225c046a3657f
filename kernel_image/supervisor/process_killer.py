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

from kernel_image import contract
from kernel_image.confinement import privileges

_POLL_SEC = 0.005
_GONE_TIMEOUT_SEC = 20.0


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

    def kill_all(self) -> None:
        """Send SIGKILL to all of the user's processes. `wait_until_gone` waits for their end."""
        self._user_thread.submit(_kill_all).result()

    def call_as_user(self, call: Callable[[], object]) -> None:
        """Make a call with the user's rights: as the effective user, without an effective capability."""
        self._user_thread.submit(call).result()

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


def _kill_all() -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
