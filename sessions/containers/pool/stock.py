"""The pool's sandboxes by what they do, and the callers that wait for one."""

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final

from sessions.containers.observer import Removal
from sessions.containers.pool.queue import Queue
from sessions.containers.remover import Remover
from sessions.containers.sandbox import Sandbox

_SOON_SEC: Final = 0.05


class Stock:
    """Hands out sandboxes, discards them, and reports changes to whatever launches more."""

    def __init__(self, remover: Remover, kept_ids: Collection[str]) -> None:
        """`kept_ids` are the ids of containers that belong to sessions of an earlier run of the service."""
        self.ready: deque[Sandbox] = deque()
        """Sandboxes that are as new, and wait for a caller."""
        self.busy: set[Sandbox] = set()
        """Sandboxes that run code of a caller, or are being scrubbed."""
        self.kept: set[Sandbox] = set()
        """Sandboxes of this service's sessions."""
        self.kept_ids = set(kept_ids)
        """Ids of containers that belong to a session, of this service or of another replica."""
        self.starting = 0
        """Number of launches under way."""
        self.queue = Queue()
        self._remover = remover
        self._changed = asyncio.Event()

    @property
    def total(self) -> int:
        """Number of containers that exist or are being launched."""
        return len(self.ready) + self.starting + len(self.busy) + len(self.kept)

    @property
    def known_ids(self) -> set[str]:
        """Ids of all containers that have a use."""
        return {sandbox.container_id for sandbox in (*self.ready, *self.busy)} | self.kept_ids

    # --- handing out ------------------------------------------------------------------------------

    def take(self, tenant: str) -> Sandbox | None:
        """Hand out a ready sandbox that may serve the tenant; None if there is none."""
        fitting = [sandbox for sandbox in self.ready if sandbox.serves(tenant)]
        if not fitting:
            return None
        # A sandbox that has served this tenant goes first: the others can still serve any tenant.
        sandbox = max(fitting, key=lambda sandbox: sandbox.tenant == tenant)
        self.ready.remove(sandbox)
        self._hand_out(sandbox, tenant)
        return sandbox

    def offer(self, sandbox: Sandbox) -> None:
        """Give a sandbox to the next waiting caller that it may serve, or keep it ready."""
        self.busy.discard(sandbox)
        waiter = self.queue.next_for(sandbox)
        if waiter is None:
            self.ready.append(sandbox)
        else:
            self._hand_out(sandbox, waiter.tenant)
            waiter.sandbox.set_result(sandbox)

    def discard(self, sandbox: Sandbox, why: Removal) -> None:
        """Take a sandbox out of the stock, and remove its container in the background."""
        self.busy.discard(sandbox)
        if sandbox in self.ready:
            self.ready.remove(sandbox)
        self._remover.discard(sandbox, why)
        self.changed_soon()

    def _hand_out(self, sandbox: Sandbox, tenant: str) -> None:
        self.busy.add(sandbox)
        sandbox.tenant = tenant
        self.queue.had_turn(tenant)

    # --- sessions' sandboxes ----------------------------------------------------------------------

    def keep(self, sandbox: Sandbox) -> None:
        """Let a session keep a sandbox: one that was handed out, or one of an earlier run of the service."""
        self.busy.discard(sandbox)
        self.kept.add(sandbox)
        self.kept_ids.add(sandbox.container_id)

    def release(self, sandbox: Sandbox) -> None:
        """Forget a session's sandbox, which another service has adopted."""
        # The id stays known: the container has this service's label and would be taken for a leftover.
        self.kept.discard(sandbox)

    def end_keeping(self, sandbox: Sandbox) -> None:
        """Count the sandbox of a session that has ended as busy, until it is offered or discarded."""
        self.kept.discard(sandbox)
        self.kept_ids.discard(sandbox.container_id)
        self.busy.add(sandbox)

    # --- changes ----------------------------------------------------------------------------------

    def changed(self) -> None:
        """Wake up `wait_for_change`: containers or callers have come or gone."""
        self._changed.set()

    def changed_soon(self) -> None:
        """Call `changed` a moment later: the call that took a sandbox gets the CPU first.

        Most calls are over in a few milliseconds.
        """
        asyncio.get_running_loop().call_later(_SOON_SEC, self._changed.set)

    async def wait_for_change(self) -> None:
        """Return after the next `changed`, at once if one came since this returned last."""
        await self._changed.wait()
        self._changed.clear()
