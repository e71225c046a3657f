"""Concurrent clients of any service that has `/v1/execute`."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp

_PATIENCE_SEC = 120.0
_PAUSE_SEC = 0.2


@dataclass
class Load:
    """Results of `clients` callers, who each sent requests one after the other until `seconds` were over."""

    clients: int
    seconds: float
    answered: list[float] = field(default_factory=list)
    """Seconds of each successful request."""
    refused: int = 0
    """Number of answers 429 and 503. Their callers waited a moment and tried again."""
    failed: int = 0

    @property
    def per_second(self) -> float:
        """Executions per second."""
        return len(self.answered) / self.seconds


async def _client(
    session: aiohttp.ClientSession, url: str, code: str, expected: str | None, load: Load
) -> None:
    until = time.perf_counter() + load.seconds
    while True:
        started = time.perf_counter()
        async with session.post(url, json={"code": code}) as response:
            answer = await response.json()
        if response.status == 200 and expected in (answer["stdout"], None):
            load.answered.append(time.perf_counter() - started)
        elif response.status in (429, 503):
            load.refused += 1
            await asyncio.sleep(_PAUSE_SEC)
        else:
            load.failed += 1
        if time.perf_counter() >= until:
            return


async def _drive(base_url: str, code: str, expected: str | None, load: Load) -> None:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SEC)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        url = f"{base_url}/v1/execute"
        started = time.perf_counter()
        await asyncio.gather(*(_client(session, url, code, expected, load) for _ in range(load.clients)))
        load.seconds = time.perf_counter() - started


def drive(
    base_url: str, clients: int, seconds: float, code: str = "1+1", expected: str | None = "2\n"
) -> Load:
    """Send requests, and return after the last answer. An answer must print `expected`."""
    load = Load(clients, seconds)
    asyncio.run(_drive(base_url.rstrip("/"), code, expected, load))
    return load
