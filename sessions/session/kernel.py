"""The kernel of an open session, and its replacements in the same container."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from sessions.containers.sandbox import Sandbox
from sessions.kernels.errors import SupervisorFailed
from sessions.ports import ContainerRows

log = logging.getLogger(__name__)


class SessionKernel:
    """Replaces the kernel of a session, and reports each new kernel to an observer."""

    def __init__(self, session_id: str, sandbox: Sandbox, containers: ContainerRows) -> None:
        self.execution_count = 0
        """Execution count of the last cell, as the kernel counts."""
        self.is_in_place = asyncio.Event()
        """Cleared while one kernel replaces another."""
        self.is_in_place.set()
        self._session_id = session_id
        self._sandbox = sandbox
        self._containers = containers
        self._on_new: Callable[[bool], None] = _ignore
        self._to_replace = ""
        """Key of the kernel whose restart was requested."""

    @property
    def key(self) -> str:
        """The key that signs the kernel's messages; each kernel has its own."""
        return self._sandbox.connection.kernel_key

    def observe(self, on_new: Callable[[bool], None]) -> None:
        """Call `on_new` after each replacement, with whether a restart was requested."""
        self._on_new = on_new

    def stop_observing(self) -> None:
        """Report no more kernels."""
        self._on_new = _ignore

    def request_restart(self) -> str:
        """Note that a caller requests another kernel; return the key of this one."""
        self._to_replace = self.key
        return self.key

    async def start(self) -> None:
        """Replace the kernel by a new one.

        Raises:
            SupervisorFailed: the container is lost.
            RegistryUnavailable: the kernel has started, but its key is not in the registry.
        """
        is_requested = self.key == self._to_replace
        self.is_in_place.clear()
        try:
            await self._sandbox.start_kernel()
        finally:
            self.is_in_place.set()
        self.execution_count = 0
        await self._containers.update_container_key(self._sandbox.container_id, self.key)
        self._on_new(is_requested)

    async def ensure_ready(self) -> None:
        """Wait until the kernel answers. Interrupt it if it does not, then replace it. Errors as `start`."""
        with contextlib.suppress(SupervisorFailed):
            return await self._sandbox.runner.wait_until_ready()
        try:
            await self._sandbox.runner.interrupt()
            await self._sandbox.runner.wait_until_ready()
        except SupervisorFailed:
            log.warning("the kernel of session %s does not answer; it is restarted", self._session_id)
            await self.start()


def _ignore(_: bool) -> None:
    """Do nothing: no observer wants to know of new kernels."""
