"""The kernel of an open session, and those that take its place in the same container."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from service.database.container_registry import ContainerRegistry
from sessions.containers.sandbox import Sandbox
from sessions.kernels.errors import SupervisorFailed

log = logging.getLogger(__name__)


class SessionKernel:
    """Start another one in its place, and say so to whoever follows it."""

    def __init__(self, session_id: str, sandbox: Sandbox, registry: ContainerRegistry) -> None:
        self.execution_count = 0
        """Of its last cell."""
        self.is_settled = asyncio.Event()
        """Cleared while a kernel takes the place of another."""
        self.is_settled.set()
        self._session_id = session_id
        self._sandbox = sandbox
        self._registry = registry
        self._on_new: Callable[[bool], None] = _nobody
        self._unwanted_key = ""
        """Of the kernel that somebody has asked to be replaced."""

    @property
    def key(self) -> str:
        """Another one for each kernel."""
        return self._sandbox.connection.kernel_key

    def follow(self, on_new: Callable[[bool], None]) -> None:
        """Call `on_new` when another kernel has taken its place, with whether somebody asked for that."""
        self._on_new = on_new

    def unfollow(self) -> None:
        """Nobody wants to know any more."""
        self._on_new = _nobody

    def unwant(self) -> str:
        """Note that somebody asks for another one; its key."""
        self._unwanted_key = self.key
        return self.key

    async def start(self) -> None:
        """Start a kernel in the place of this one.

        Raises:
            SupervisorFailed: the container is lost.
            RegistryUnavailable: it is there, and not written down.
        """
        is_asked_for = self.key == self._unwanted_key
        self.is_settled.clear()
        try:
            await self._sandbox.start_kernel()
        finally:
            self.is_settled.set()
        self.execution_count = 0
        await self._registry.update_container_key(self._sandbox.container_id, self.key)
        self._on_new(is_asked_for)

    async def make_sure(self) -> None:
        """It answers, or is interrupted in what it does for nobody, or is replaced; errors as `start`."""
        with contextlib.suppress(SupervisorFailed):
            return await self._sandbox.runner.wait_until_ready()
        try:
            await self._sandbox.runner.interrupt()
            await self._sandbox.runner.wait_until_ready()
        except SupervisorFailed:
            log.warning("the kernel of session %s does not answer and is restarted", self._session_id)
            await self.start()


def _nobody(_: bool) -> None:
    """Where nobody wants to know of a new kernel."""
