"""The pool: sandboxes kept ready and handed out, in order of arrival and in turn between tenants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from sessions.containers.container_log import ContainerLog
from sessions.containers.engine import Engine
from sessions.containers.errors import AllKernelsBusy, NoCapacity
from sessions.containers.image_care import ImageStatus
from sessions.containers.launcher import Examine, Launcher, LaunchSettings
from sessions.containers.observer import NoObserver, PoolObserver, Removal
from sessions.containers.pool.backoff import Backoff
from sessions.containers.pool.demand import Demand
from sessions.containers.pool.image_follower import ImageFollower
from sessions.containers.pool.learner import Learner
from sessions.containers.pool.recycler import Recycler, ReuseLimits
from sessions.containers.pool.replenisher import Replenisher
from sessions.containers.pool.stock import Stock
from sessions.containers.pool.upkeep import Upkeep
from sessions.containers.remover import Remover
from sessions.containers.sandbox import Sandbox
from sessions.errors import SessionsError
from sessions.kernels.connection import Connection
from sessions.tasks import BackgroundTasks

_RETRY_AFTER_SEC: Final = 2


@dataclass(frozen=True)
class PoolSettings:
    """How many sandboxes there may be, and how long a caller waits for one."""

    launch: LaunchSettings
    least_ready: int
    most_ready: int
    """The number of ready sandboxes follows the demand between `least_ready` and `most_ready`."""
    max_containers: int
    queue_size: int
    queue_timeout_sec: float
    reuse: ReuseLimits | None = None
    """None: a container serves one execution only."""


@dataclass(frozen=True)
class PoolStatus:
    """Numbers of containers and of waiting callers; `problem` is why the last launch failed, if it did."""

    ready: int
    starting: int
    busy: int
    waiting: int
    kept: int
    target: int
    problem: str | None


class Pool:
    """Use as `async with Pool(...)`; leaving removes every container that no session keeps."""

    def __init__(
        self,
        engine: Engine,
        settings: PoolSettings,
        containers: ContainerLog,
        kept: Collection[str] = (),
        examine: Examine | None = None,
        observer: PoolObserver | None = None,
    ) -> None:
        """`kept` are the ids of containers that belong to sessions of an earlier run of the service.

        `examine` checks the first sandbox before any other is launched; an exception of it ends the start.
        """
        observer = observer or NoObserver()
        launch, most = settings.launch, settings.max_containers
        self._settings = settings
        self._containers = containers
        self._demand = Demand(settings.least_ready, settings.most_ready)
        self._remover = Remover(engine, launch.instance_id, containers, observer)
        self._launcher = Launcher(engine, launch, containers, self._remover, examine, observer)
        self._stock = Stock(self._remover, kept)
        self._backoff = Backoff()
        self._images = ImageFollower(self._stock, self._launcher, self._backoff, max_containers=most)
        self._replenisher = Replenisher(
            self._stock,
            self._demand,
            self._launcher,
            self._images,
            self._backoff,
            observer,
            max_containers=most,
            reuse=settings.reuse is not None,
        )
        self._recycler = Recycler(self._stock, self._launcher, observer, settings.reuse)
        self._learner = Learner(self._stock, self._launcher, max_containers=most)
        self._upkeep = Upkeep(
            self._stock, self._demand, self._launcher, self._remover, launch.limits.lease_sec
        )
        self._tasks = BackgroundTasks()
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> "Pool":
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
        self._http = aiohttp.ClientSession(connector=connector)
        stock = self._stock
        try:
            await self._remover.remove_all_but(stock.kept_ids, Removal.LEFTOVER)
            first = await self._launcher.open(self._http)
        except BaseException:
            await self._http.close()
            raise
        if self._demand.target and len(stock.kept_ids) < self._settings.max_containers:
            stock.offer(first)
        else:
            await self._remover.remove_now(first, Removal.SURPLUS)
        for work in (self._replenisher, self._upkeep, self._images, self._learner):
            self._tasks.start(work.run())
        stock.changed()
        return self

    async def __aexit__(self, *_: object) -> None:
        stock = self._stock
        stock.queue.refuse_all(NoCapacity("the service is stopping", _RETRY_AFTER_SEC))
        await asyncio.gather(self._recycler.close(), self._remover.close(), self._tasks.close())
        ours = (*stock.ready, *stock.busy, *stock.kept)
        await asyncio.gather(*(sandbox.close() for sandbox in ours), return_exceptions=True)
        with contextlib.suppress(SessionsError):
            await self._remover.remove_all_but(stock.kept_ids, Removal.STOPPING)
        await self._http.close()

    # --- one-shot executions ----------------------------------------------------------------------

    @asynccontextmanager
    async def lease(self, tenant: str) -> AsyncIterator[Sandbox]:
        """Hand out a ready sandbox to one call, for as long as the block runs.

        Afterwards, in the background, its container is destroyed, or made as new for the same tenant
        if the call set `sandbox.ended_well`.

        Raises:
            AllKernelsBusy: no sandbox became free in time, or too many callers are waiting already.
            NoCapacity: no sandbox can be launched now, or the service is stopping.
        """
        sandbox = await self._take(tenant)
        try:
            yield sandbox
        finally:
            self._learner.note(sandbox)
            self._recycler.take_back(sandbox, Removal.USED)

    # --- sessions ---------------------------------------------------------------------------------

    async def keep(self, tenant: str) -> Sandbox:
        """Hand out a ready sandbox to a session, which renews its lease, and gives it back with `take_back`.

        Raises:
            AllKernelsBusy, NoCapacity: as `lease`.
        """
        sandbox = await self._take(tenant)
        self._stock.keep(sandbox)
        if sandbox.uses:
            await self._containers.rekeyed(sandbox.connection)
        return sandbox

    def adopt(self, connection: Connection) -> Sandbox:
        """Return the sandbox that an earlier run of a service kept for a session; not connected."""
        sandbox = self._launcher.adopt(connection)
        self._stock.keep(sandbox)
        return sandbox

    def abandon(self, container_id: str) -> None:
        """Let the container of a session that cannot be adopted be removed with the leftovers."""
        self._stock.kept_ids.discard(container_id)

    async def release(self, sandbox: Sandbox) -> None:
        """Close the sandbox of a session that another service has adopted; its container stays."""
        self._stock.release(sandbox)
        await sandbox.close()

    async def is_running(self, sandbox: Sandbox, instance_id: str) -> bool:
        """Whether the engine still runs the container, which the instance of that id launched."""
        return await self._launcher.is_running(sandbox, instance_id)

    def take_back(self, sandbox: Sandbox) -> None:
        """Take back the sandbox of a session that has ended.

        In the background, its container is made as new for the same tenant if the session set
        `sandbox.ended_well`, and destroyed otherwise.
        """
        self._learner.note(sandbox)
        self._stock.end_keeping(sandbox)
        self._recycler.take_back(sandbox, Removal.SESSION_ENDED)

    # --- waiting ----------------------------------------------------------------------------------

    async def _take(self, tenant: str) -> Sandbox:
        stock = self._stock
        self._demand.arrived()
        sandbox = stock.take(tenant)
        if sandbox is not None:
            stock.changed_soon()
            return sandbox
        if len(stock.queue) >= self._settings.queue_size:
            raise self._refusal(f"{len(stock.queue)} callers are waiting")
        return await self._wait(tenant)

    async def _wait(self, tenant: str) -> Sandbox:
        stock = self._stock
        waiter = stock.queue.join(tenant)
        stock.changed()
        try:
            await asyncio.wait({waiter.sandbox}, timeout=self._settings.queue_timeout_sec)
        except asyncio.CancelledError:
            if waiter.sandbox.done():
                stock.discard(waiter.sandbox.result(), Removal.USED)
            else:
                stock.queue.leave(waiter)
            raise
        if waiter.sandbox.done():
            return waiter.sandbox.result()
        stock.queue.leave(waiter)
        raise self._refusal(f"none within {self._settings.queue_timeout_sec:g} s")

    def _refusal(self, reason: str) -> NoCapacity:
        """Return the error for a caller that gets no sandbox.

        Args:
            reason: why the caller gets none although sandboxes can be launched.
        """
        later = _RETRY_AFTER_SEC + len(self._stock.queue) // max(1, self._settings.max_containers)
        problem = self.status().problem
        return AllKernelsBusy(reason, later) if problem is None else NoCapacity(problem, later)

    # --- state ------------------------------------------------------------------------------------

    async def drop_dead(self) -> None:
        """Ask every ready sandbox whether it is alive, and replace those that do not answer."""
        await self._upkeep.discard_dead()

    def status(self) -> PoolStatus:
        """Return the numbers that `GET /ready` and the metrics show."""
        stock = self._stock
        return PoolStatus(
            ready=len(stock.ready),
            starting=stock.starting,
            busy=len(stock.busy),
            waiting=len(stock.queue),
            kept=len(stock.kept),
            target=self._demand.target,
            problem=self._launcher.problem or self._backoff.problem,
        )

    def image(self) -> ImageStatus:
        """Return the image in use, with warnings about it."""
        return self._launcher.image()
