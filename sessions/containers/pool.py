"""Kernels kept ready and handed out: in order of arrival, in turn between tenants.

A container is destroyed after its execution, or made as new for the same tenant (`lease`).

Refilling is a matter of one function, `_refill`, that looks at what is there and what is wanted and
is called whenever either changes.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Final

import aiohttp

from sessions.containers.demand import Demand
from sessions.containers.engine import Engine
from sessions.containers.errors import ImageNotFound, NoCapacity
from sessions.containers.image_care import ImageStatus
from sessions.containers.launcher import ContainerLog, Examine, Launcher, LaunchSettings
from sessions.containers.observer import NoObserver, PoolObserver, Removal, Scrub
from sessions.containers.queue import Queue
from sessions.containers.sandbox import Sandbox
from sessions.errors import SessionsError, log_text
from sessions.kernels.connection import Connection
from sessions.kernels.errors import NotClean
from sessions.models import Image
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_LAUNCHES_AT_ONCE: Final = 2
_REFILL_DELAY_SEC: Final = 0.05
_RETRY_SEC: Final = (1.0, 2.0, 5.0, 10.0)
_RETRY_AFTER_SEC: Final = 2
_FIRST_BYTES: Final = 2 << 30
_IDLE_HEADROOM: Final = 1.1
_MIB: Final = 1 << 20
_REMOVE_SEC: Final = 30.0
_ANSWER_SEC: Final = 5.0
_SURPLUS_SEC: Final = 30.0
"""What a supervisor answers that can't make its container as new."""
_ROUND_SEC: Final = 5.0
"""Between two looks after leases and orphans, and between two after the image."""


@dataclass(frozen=True)
class PoolSettings:
    """How many kernels, and how long to wait for one."""

    launch: LaunchSettings
    least_ready: int
    most_ready: int
    """Between these the number of kernels kept ready follows what is asked for."""
    max_containers: int
    queue_size: int
    queue_timeout_sec: float
    reuse: bool = False
    """Whether a container serves the same tenant again, as new, after an execution that ended well."""
    max_uses: int = 1
    """Executions after which a container is destroyed all the same."""
    max_age_sec: float = 0.0


@dataclass(frozen=True)
class PoolStatus:
    """Counts of containers and callers; `problem` is why the last launch failed, if it did."""

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
        """`kept` are the ids of containers that belong to sessions of an earlier life of the service.

        `examine` looks at the first kernel before any other is launched; what it raises ends the start.
        """
        self._settings = settings
        self._containers = containers
        self._observer = observer or NoObserver()
        self._launcher = Launcher(engine, settings.launch, containers, examine, self._observer)
        self._changing_image = asyncio.Lock()
        self._http: aiohttp.ClientSession
        self._ready: deque[Sandbox] = deque()
        self._demand = Demand(settings.least_ready, settings.most_ready)
        self._queue = Queue()
        self._busy: set[Sandbox] = set()
        self._kept: set[Sandbox] = set()
        self._kept_ids = set(kept)
        self._suspects: set[str] = set()
        self._starting = 0
        self._failures = 0
        self._problem: str | None = None
        self._resting = False
        self._closed = False
        self._tasks = BackgroundTasks()

    async def __aenter__(self) -> "Pool":
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=600)
        self._http = aiohttp.ClientSession(connector=connector)
        try:
            await self._launcher.remove_all_but(self._kept_ids, Removal.LEFTOVER)
            first = await self._launcher.open(self._http)
        except BaseException:
            await self._http.close()
            raise
        if self._demand.target and len(self._kept_ids) < self._settings.max_containers:
            self._ready.append(first)
        else:
            await self._launcher.remove_now(first, Removal.SURPLUS)
        self._tasks.start(self._renew_leases())
        self._tasks.start(self._follow_image())
        self._refill()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._queue.refuse_all(NoCapacity("the service is stopping", _RETRY_AFTER_SEC))
        await self._tasks.close()
        ours = (*self._ready, *self._busy, *self._kept)
        await asyncio.gather(*(sandbox.close() for sandbox in ours), return_exceptions=True)
        with contextlib.suppress(SessionsError):
            await self._launcher.remove_all_but(self._kept_ids, Removal.STOPPING)
        await self._http.close()

    # --- launching ------------------------------------------------------------------------------

    def _hurried(self) -> bool:
        """Whether somebody waits for the very next kernel, which will serve nobody after that."""
        return bool(self._queue) and not self._settings.reuse

    def _refill(self) -> None:
        """Start as many launches as are wanted, possible and sensible at once."""
        while (
            not self._closed
            and not self._resting
            and self._starting < _LAUNCHES_AT_ONCE
            and self._wants_more()
            and (self._total() < self._settings.max_containers or self._gives_way())
        ):
            self._starting += 1
            # It is made for whoever comes: nothing of the call that happens to be under way belongs to it.
            self._tasks.start(self._add_one(), Context())

    def _wants_more(self) -> bool:
        """Whoever waits, waits because nothing that is ready may serve them."""
        waiting = len(self._queue)
        return self._starting < waiting or (len(self._ready) + self._starting < self._demand.target + waiting)

    def _gives_way(self) -> bool:
        """Destroy an idle container of one tenant where others wait; False if there is none."""
        if not self._queue or not self._ready:
            return False
        self._discard(self._ready.popleft(), Removal.GAVE_WAY)
        return True

    def _total(self) -> int:
        return len(self._ready) + self._starting + len(self._busy) + len(self._kept)

    def _refill_soon(self) -> None:
        """Let the call that took a kernel have the CPU first: most are over in a few milliseconds."""
        asyncio.get_running_loop().call_later(_REFILL_DELAY_SEC, self._refill)

    async def _add_one(self) -> None:
        began = time.monotonic()
        try:
            sandbox = await self._launcher.launch(self._hurried)
        except Exception as error:
            self._starting -= 1
            self._observer.launch_failed()
            await self._rest_after(error)
        except BaseException:
            self._starting -= 1
            raise
        else:
            self._starting -= 1
            self._failures, self._problem = 0, None
            self._demand.launched(time.monotonic() - began)
            if self._launcher.is_current(sandbox):
                self._offer(sandbox)
            else:
                self._discard(sandbox, Removal.OUTDATED)
        self._refill()

    async def _rest_after(self, error: Exception) -> None:
        """Wait before the next launch, the longer the more have failed; prepare the engine for it anew."""
        if isinstance(error, ImageNotFound):
            error = self._launcher.image_is_missing()  # the engine says its id only
        else:
            self._problem = str(error)
        pause = _RETRY_SEC[min(self._failures, len(_RETRY_SEC) - 1)]
        self._failures += 1
        log.error("a launch failed, next try in %g s: %s", pause, error)
        self._resting = True
        try:
            await asyncio.sleep(pause)
            # The network may be gone, and the image may be another one by now.
            await self._launcher.prepare()
            await self._look_after_image()
        except SessionsError as still:
            self._problem = str(still)
        finally:
            self._resting = False

    # --- the image ------------------------------------------------------------------------------

    async def _follow_image(self) -> None:
        """See to it that kernels come from the image that has the name, whatever becomes of it."""
        while True:
            await asyncio.sleep(_ROUND_SEC)
            try:
                await self._look_after_image()
            except Exception as error:
                log.warning("looking after the kernel image failed: %s", error)

    async def _look_after_image(self) -> None:
        async with self._changing_image:
            found = await self._launcher.look()
            if found is not None:
                await self._change_image(found)
        self._refill()

    async def _change_image(self, image: Image) -> None:
        """Launch from another image, if its first kernel is as it ought to be; sessions stay as they are."""
        if self._total() >= self._settings.max_containers:
            if not self._ready:
                return  # tried again in the next round
            self._discard(self._ready.popleft(), Removal.OUTDATED)
        self._starting += 1
        try:
            first = await self._launcher.change_to(image)
        finally:
            self._starting -= 1
        if first is None:
            return
        self._failures, self._problem = 0, None
        self._offer(first)
        for sandbox in [sandbox for sandbox in self._ready if not self._launcher.is_current(sandbox)]:
            self._ready.remove(sandbox)
            self._discard(sandbox, Removal.OUTDATED)

    def image(self) -> ImageStatus:
        """The image in use, for people and for `/ready`."""
        return self._launcher.image()

    def _offer(self, sandbox: Sandbox) -> None:
        waiter = self._queue.next_for(sandbox)
        if waiter is None:
            self._ready.append(sandbox)
        else:
            self._hand_out(sandbox, waiter.tenant)
            waiter.sandbox.set_result(sandbox)

    def _hand_out(self, sandbox: Sandbox, tenant: str) -> None:
        self._busy.add(sandbox)
        sandbox.tenant = tenant
        self._queue.had_turn(tenant)

    # --- handing out ----------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(self, tenant: str) -> AsyncIterator[Sandbox]:
        """A ready kernel for the caller alone.

        Afterwards, in the background, its container is destroyed, or made as new for the same tenant
        if `sandbox.ended_well` was set.

        Raises:
            NoCapacity: none became free in time, or too many are waiting already.
        """
        sandbox = await self._take(tenant)
        try:
            yield sandbox
        finally:
            if self._may_be_reused(sandbox):
                self._tasks.start(self._reuse(sandbox))
            else:
                self._discard(sandbox, Removal.USED)

    def _may_be_reused(self, sandbox: Sandbox) -> bool:
        settings = self._settings
        return (
            settings.reuse
            and not self._closed
            and sandbox.ended_well
            and self._launcher.is_current(sandbox)
            and sandbox.uses < settings.max_uses
            and sandbox.age_sec < settings.max_age_sec
        )

    async def _reuse(self, sandbox: Sandbox) -> None:
        """Make a container as new; where there is any doubt, destroy it."""
        began = time.monotonic()
        try:
            await sandbox.scrub()
        except SessionsError as error:
            result = Scrub.DOUBTFUL if isinstance(error, NotClean) else Scrub.FAILED
            self._observer.scrubbed(result, time.monotonic() - began)
            name = sandbox.connection.container.name
            log.warning("container %s is not used again (%s): %s", name, result, log_text(error))
            self._discard(sandbox, Removal.NOT_CLEAN)
        else:
            self._observer.scrubbed(Scrub.CLEAN, time.monotonic() - began)
            self._busy.discard(sandbox)
            self._offer(sandbox)
            self._refill()

    async def keep(self, tenant: str) -> Sandbox:
        """A ready kernel for a session: the caller's, leases included, until it is given to `drop`.

        Raises:
            NoCapacity: as `lease`.
        """
        sandbox = await self._take(tenant)
        self._busy.discard(sandbox)
        self._add_kept(sandbox)
        if sandbox.uses:
            await self._containers.rekeyed(sandbox.connection)
        return sandbox

    def adopt(self, connection: Connection) -> Sandbox:
        """A kept container of an earlier life of a service, as `keep` gave it then; not connected."""
        sandbox = self._launcher.adopt(connection)
        self._add_kept(sandbox)
        return sandbox

    async def release(self, sandbox: Sandbox) -> None:
        """Let go of a session's container, which another service has adopted."""
        # Its id stays known: with our label it would be taken for a leftover.
        self._kept.discard(sandbox)
        await sandbox.close()

    async def is_running(self, sandbox: Sandbox, instance_id: str) -> bool:
        """Whether the engine still has the container, which that instance has launched."""
        return await self._launcher.is_running(sandbox, instance_id)

    def _add_kept(self, sandbox: Sandbox) -> None:
        self._kept.add(sandbox)
        self._kept_ids.add(sandbox.container_id)

    def drop(self, sandbox: Sandbox) -> None:
        """Destroy the container of a session that has ended, in the background."""
        self._kept.discard(sandbox)
        self._kept_ids.discard(sandbox.container_id)
        self._discard(sandbox, Removal.SESSION_ENDED)

    async def _take(self, tenant: str) -> Sandbox:
        self._demand.arrived()
        fitting = [sandbox for sandbox in self._ready if sandbox.serves(tenant)]
        if fitting:
            # One of its own first: the others can still become anybody's.
            sandbox = max(fitting, key=lambda sandbox: sandbox.tenant == tenant)
            self._ready.remove(sandbox)
            self._hand_out(sandbox, tenant)
            self._refill_soon()
            return sandbox
        if len(self._queue) >= self._settings.queue_size:
            raise NoCapacity(f"{len(self._queue)} callers are waiting", self._retry_after())
        return await self._wait(tenant)

    async def _wait(self, tenant: str) -> Sandbox:
        waiter = self._queue.join(tenant)
        self._refill()
        try:
            await asyncio.wait({waiter.sandbox}, timeout=self._settings.queue_timeout_sec)
        except asyncio.CancelledError:
            if waiter.sandbox.done():
                self._discard(waiter.sandbox.result(), Removal.USED)
            else:
                self._queue.leave(waiter)
            raise
        if waiter.sandbox.done():
            return waiter.sandbox.result()
        self._queue.leave(waiter)
        reason = self.status().problem or f"none within {self._settings.queue_timeout_sec:g} s"
        raise NoCapacity(reason, self._retry_after())

    def _retry_after(self) -> int:
        return _RETRY_AFTER_SEC + len(self._queue) // max(1, self._settings.max_containers)

    async def _answers(self, sandbox: Sandbox) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_SEC):
                await sandbox.renew_lease(self._settings.launch.limits.lease_sec)
        except (SessionsError, TimeoutError) as error:
            log.warning("container %s is lost: %s", sandbox.connection.container.name, log_text(error))
            return False
        return True

    def _discard(self, sandbox: Sandbox, why: Removal) -> None:
        self._busy.discard(sandbox)
        if self._closed:
            sandbox.disconnect()
        else:
            # Once the answer that it gave has left.
            self._tasks.start(self._launcher.remove_after(_REFILL_DELAY_SEC, sandbox, why))
            self._refill_soon()

    async def _renew_leases(self) -> None:
        """Keep alive what is ours, and notice what died while it waited."""
        while True:
            await asyncio.sleep(min(_ROUND_SEC, self._settings.launch.limits.lease_sec / 4))
            self._drop_surplus()
            await asyncio.gather(self.drop_dead(), *(self._answers(sandbox) for sandbox in self._busy))
            try:
                await self._remove_orphans()
            except Exception as error:
                log.warning("looking for containers without an owner failed: %s", error)

    async def _remove_orphans(self) -> None:
        """Remove containers that are labelled ours and unknown to us, twice in a row."""
        if self._starting:
            return
        running = await self._launcher.running()
        known = {sandbox.container_id for sandbox in (*self._ready, *self._busy)} | self._kept_ids
        unknown = running - known
        for container_id in unknown & self._suspects:
            log.warning("container %s has no owner and is removed", container_id)
            await self._launcher.remove(container_id, Removal.LEFTOVER)
        self._suspects = unknown

    async def drop_dead(self) -> None:
        """Ask each waiting kernel's container whether it lives, and replace those that do not."""
        idle = list(self._ready)
        answers = await asyncio.gather(*(self._answers(sandbox) for sandbox in idle))
        for sandbox, answered in zip(idle, answers, strict=True):
            if not answered and sandbox in self._ready:
                self._ready.remove(sandbox)
                self._discard(sandbox, Removal.LOST)

    def _drop_surplus(self) -> None:
        """Destroy what a busy time has left and nobody has used since: too many, or made in a hurry."""
        for sandbox in list(self._ready):
            too_many = len(self._ready) > self._demand.target and sandbox.idle_sec > _SURPLUS_SEC
            if too_many or not (sandbox.is_complete or self._queue):
                self._ready.remove(sandbox)
                self._discard(sandbox, Removal.SURPLUS)

    def status(self) -> PoolStatus:
        """Counts, for people and for `/ready`."""
        return PoolStatus(
            ready=len(self._ready),
            starting=self._starting,
            busy=len(self._busy),
            waiting=len(self._queue),
            kept=len(self._kept),
            target=self._demand.target,
            problem=self._launcher.problem or self._problem,
        )
