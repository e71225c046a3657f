"""Callers that wait for a sandbox: in order of arrival, and in turn between tenants."""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Final

from sessions.containers.sandbox import Sandbox

_TENANTS_REMEMBERED: Final = 10_000


@dataclass(frozen=True, eq=False)
class Waiter:
    """A caller in the queue. `sandbox` is done when the caller gets its sandbox, or is refused."""

    tenant: str
    sandbox: asyncio.Future[Sandbox]


class Queue:
    """The waiting callers, and the order in which tenants got their last sandbox."""

    def __init__(self) -> None:
        self._waiting: list[Waiter] = []
        self._turns = itertools.count(1)
        self._last_turn: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, tenant: str) -> Waiter:
        """Add a caller."""
        waiter = Waiter(tenant, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Remove a caller that gave up."""
        self._waiting.remove(waiter)

    def next_for(self, sandbox: Sandbox) -> Waiter | None:
        """Remove and return the caller that gets the sandbox; None if it may serve none of them.

        Of the tenants that it may serve, the one comes first that has waited longest since its last sandbox.
        """
        fitting = [waiter for waiter in self._waiting if sandbox.serves(waiter.tenant)]
        if not fitting:
            return None
        waiter = min(fitting, key=lambda waiter: self._last_turn.get(waiter.tenant, 0))
        self._waiting.remove(waiter)
        return waiter

    def had_turn(self, tenant: str) -> None:
        """Record that the tenant has got a sandbox now."""
        if len(self._last_turn) > _TENANTS_REMEMBERED:
            self._last_turn.clear()
        self._last_turn[tenant] = next(self._turns)

    def refuse_all(self, error: Exception) -> None:
        """Raise `error` in every waiting caller."""
        while self._waiting:
            self._waiting.pop().sandbox.set_exception(error)
