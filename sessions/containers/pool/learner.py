"""Has zygotes import the heavy modules that programs use, so that later programs have them at once."""

import asyncio
import logging
from typing import Final

from kernel_image import learnable
from sessions.containers.launcher import Launcher
from sessions.containers.observer import Removal
from sessions.containers.pool.stock import Stock
from sessions.containers.sandbox import Sandbox
from sessions.errors import SessionsError, log_text

log = logging.getLogger(__name__)

_LOOK_SEC: Final = 0.1
_RETRY_SEC: Final = 30.0


class Learner:
    """`run` it in the background, and call `note` when a sandbox has been used.

    Zygotes never import modules after user code has run in their container: new containers replace the old.
    """

    def __init__(self, stock: Stock, launcher: Launcher, *, max_containers: int) -> None:
        self._stock = stock
        self._launcher = launcher
        self._max_containers = max_containers
        self._wanted: set[str] = set()
        self._refused: set[str] = set()
        """Modules that take more memory than learnt modules may."""
        self._is_wanted = asyncio.Event()

    def note(self, sandbox: Sandbox) -> None:
        """Want the modules that the programs in a sandbox have imported."""
        if self._launcher.learns and sandbox.runner.imported:
            self._wanted |= sandbox.runner.imported
            self._is_wanted.set()

    async def run(self) -> None:
        """Learn again and again, until cancelled."""
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            await self._until_idle()
            names = self._wanted - self._refused - set(self._launcher.preload)
            self._wanted.clear()
            if not names:
                continue
            try:
                await self._learn([name for name in learnable.MODULES if name in names])
            except SessionsError as error:
                log.warning("preloading %s failed: %s", ", ".join(sorted(names)), log_text(error))
                await asyncio.sleep(_RETRY_SEC)

    async def _until_idle(self) -> None:
        """Wait until nobody waits for a sandbox, and there is room for another."""
        stock = self._stock
        while stock.queue or stock.starting or (stock.total >= self._max_containers and not stock.ready):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SEC)

    async def _learn(self, names: list[str]) -> None:
        stock = self._stock
        if stock.total >= self._max_containers:
            stock.discard(stock.ready[0], Removal.SURPLUS)
        stock.starting += 1
        try:
            first = await self._launcher.preload_more(names)
        finally:
            stock.starting -= 1
        if first is None:
            self._refused.update(names)
            log.warning("%s take more memory than KERNEL_LEARN_MB and are not preloaded", ", ".join(names))
            return
        log.info("programs use %s: new kernels have them", ", ".join(names))
        for sandbox in [sandbox for sandbox in stock.ready if sandbox.tenant is not None]:
            stock.discard(sandbox, Removal.SURPLUS)  # it would serve its tenant before any other
        stock.offer(first)
        stock.changed()
        await self._replace_old()

    async def _replace_old(self) -> None:
        """Replace the ready sandboxes that lack modules one after the other, so that there is always one."""
        while True:
            await self._until_idle()
            ready = self._stock.ready
            old = next((sandbox for sandbox in ready if not self._launcher.is_complete(sandbox)), None)
            if old is None:
                return
            self._stock.discard(old, Removal.SURPLUS)
            self._stock.changed()
            await asyncio.sleep(_LOOK_SEC)
