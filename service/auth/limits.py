"""Limits of keys: requests per minute, concurrent executions, wrong keys. A limit of 0 means no limit."""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from service.auth.errors import TooManyRequests, TooManyWrongKeys
from sessions.errors import TooManyExecutions
from sessions.rate import Rate

_MINUTE: Final = 60.0
_MOST_ADDRESSES: Final = 4096
"""Addresses whose wrong keys are counted. If there are more, the one that was silent longest is forgotten."""


class RequestRate:
    """Limits the requests of each owner: a burst of ``per_minute``, then ``per_minute`` a minute, evenly."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._rates: dict[str, Rate] = {}

    def count(self, owner: str) -> None:
        """Count a request of the owner.

        Raises:
            TooManyRequests: the owner is over the limit. The refused request does not count.
        """
        if not self._per_minute:
            return
        rate = self._rates.get(owner)
        if rate is None:
            rate = self._rates[owner] = Rate(_MINUTE)
        if wait_sec := rate.try_take(_MINUTE / self._per_minute):
            raise TooManyRequests(self._per_minute, wait_sec)


class WrongKeyRate:
    """Limits the wrong keys of each address, as `RequestRate` limits requests. Right keys are not counted.

    The addresses in a /64 network of IPv6 count as one, because one machine may have all of them.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._rates: OrderedDict[str, Rate] = OrderedDict()

    def count(self, address: str) -> None:
        """Count a wrong key.

        Raises:
            TooManyWrongKeys: the address is over the limit. The refused key does not count.
        """
        if not self._per_minute:
            return
        network = _network(address)
        rate = self._rates.get(network)
        if rate is None:
            rate = self._rates[network] = Rate(_MINUTE)
            if len(self._rates) > _MOST_ADDRESSES:
                self._rates.popitem(last=False)
        self._rates.move_to_end(network)
        if wait_sec := rate.try_take(_MINUTE / self._per_minute):
            raise TooManyWrongKeys(self._per_minute, wait_sec)


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    return str(found.ipv4_mapped or int(found) >> 64)


class ConcurrencyLimit:
    """Limits the executions of each owner that run, or wait for a kernel or for the session lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: Counter[str] = Counter()

    @contextmanager
    def one_of(self, owner: str, *, runs_already: bool = False) -> Iterator[None]:
        """Count one execution of the owner while the block runs.

        Args:
            owner: The owner of the execution.
            runs_already: Count the execution, but never refuse it, because it runs already.

        Raises:
            TooManyExecutions: as many executions as allowed run already.
        """
        if self._limit and not runs_already and self._running[owner] >= self._limit:
            raise TooManyExecutions(self._limit)
        self._running[owner] += 1
        try:
            yield
        finally:
            self._running[owner] -= 1
