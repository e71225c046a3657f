"""Callers waiting for a kernel: in order of arrival, in turn between tenants."""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Final

from sessions.containers.sandbox import Sandbox

_TENANTS_REMEMBERED: Final = 10_000


@dataclass(frozen=True, eq=False)
class Waiter:
    """A caller in the queue; `sandbox` is done when it has its turn."""

    tenant: str
    sandbox: asyncio.Future[Sandbox]


class Queue:
    """The callers, and who had a kernel when."""

    def __init__(self) -> None:
        self._waiting: list[Waiter] = []
        self._turns = itertools.count(1)
        self._last_turn: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, tenant: str) -> Waiter:
        """Wait from now on, until `leave` or a turn."""
        waiter = Waiter(tenant, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer."""
        self._waiting.remove(waiter)

    def next_for(self, sandbox: Sandbox) -> Waiter | None:
        """Take out who is to have it: of those it may serve, the first of the tenant longest without."""
        fitting = [waiter for waiter in self._waiting if sandbox.serves(waiter.tenant)]
        if not fitting:
            return None
        waiter = min(fitting, key=lambda waiter: self._last_turn.get(waiter.tenant, 0))
        self._waiting.remove(waiter)
        return waiter

    def had_turn(self, tenant: str) -> None:
        """That tenant has been given a kernel just now."""
        if len(self._last_turn) > _TENANTS_REMEMBERED:
            self._last_turn.clear()
        self._last_turn[tenant] = next(self._turns)

    def refuse_all(self, error: Exception) -> None:
        """Let nobody wait any longer."""
        while self._waiting:
            self._waiting.pop().sandbox.set_exception(error)
