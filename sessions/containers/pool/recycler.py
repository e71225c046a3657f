"""Makes used sandboxes as new, so that they can serve the same tenant again."""

import logging
import time
from dataclasses import dataclass
from typing import Final

from sessions.containers.launcher import Launcher
from sessions.containers.observer import PoolObserver, Removal, Scrub
from sessions.containers.pool.stock import Stock
from sessions.containers.sandbox import Sandbox
from sessions.errors import SessionsError, log_text
from sessions.kernels.errors import NotClean
from sessions.tasks import BackgroundTasks

_WARNING_SEC: Final = 60.0
"""Shortest time between two warnings about containers that are not used again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReuseLimits:
    """How long a container may serve."""

    max_uses: int
    """Number of executions."""
    max_age_sec: float


class Recycler:
    """Takes back the sandboxes of one-shot executions and of sessions."""

    def __init__(
        self, stock: Stock, launcher: Launcher, observer: PoolObserver, limits: ReuseLimits | None
    ) -> None:
        """Without `limits`, a container serves one execution only."""
        self._stock = stock
        self._launcher = launcher
        self._observer = observer
        self._limits = limits
        self._scrubs = BackgroundTasks()
        self._is_closed = False
        self._warned_at = -_WARNING_SEC
        self._unreported = 0

    def take_back(self, sandbox: Sandbox, otherwise: Removal) -> None:
        """Scrub the sandbox for its tenant in the background, or discard it for the reason `otherwise`."""
        if self._may_serve_again(sandbox):
            self._scrubs.start(self._scrub(sandbox))
        else:
            self._stock.discard(sandbox, otherwise)

    def _may_serve_again(self, sandbox: Sandbox) -> bool:
        limits = self._limits
        return (
            limits is not None
            and not self._is_closed
            and sandbox.ended_well
            and sandbox.tenant is not None  # it is unknown if an earlier run of the service launched it
            and self._launcher.is_current(sandbox)
            and sandbox.uses < limits.max_uses
            and sandbox.age_sec < limits.max_age_sec
        )

    async def _scrub(self, sandbox: Sandbox) -> None:
        """Make a container as new. Destroy it if the supervisor cannot prove that it is clean."""
        began = time.monotonic()
        try:
            await sandbox.scrub()
        except SessionsError as error:
            result = Scrub.DOUBTFUL if isinstance(error, NotClean) else Scrub.FAILED
            self._observer.scrubbed(result, time.monotonic() - began)
            self._warn(sandbox.connection.container.name, result, error)
            self._stock.discard(sandbox, Removal.NOT_CLEAN)
        else:
            self._observer.scrubbed(Scrub.CLEAN, time.monotonic() - began)
            self._stock.offer(sandbox)
            self._stock.changed()

    def _warn(self, name: str, result: Scrub, error: SessionsError) -> None:
        """Log why a container is not used again, once a minute. Between the warnings they are counted."""
        now = time.monotonic()
        self._unreported += 1
        if now - self._warned_at < _WARNING_SEC:
            return
        others = f"; {self._unreported - 1} others since the last warning" if self._unreported > 1 else ""
        log.warning("container %s is not used again (%s): %s%s", name, result, log_text(error), others)
        self._warned_at, self._unreported = now, 0

    async def close(self) -> None:
        """Cancel the scrubs under way. From now on every sandbox is discarded."""
        self._is_closed = True
        await self._scrubs.close()
