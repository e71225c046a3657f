"""Attacks on what is kept and read of the cells that have run."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, Final

import httpx

from tests.hostile.bounds import Attack
from tests.support.process import Service
from tests.support.session import Session, new_session

_HISTORY_BYTES: Final = 48 << 20
"""`KEY_HISTORY_MB` of the service that is attacked."""
_LARGE: Final = (
    "display({'text/plain': 'x' * 6_000_000}, raw=True)",
    "display({'text/plain': 'x' * 2_000_000 + chr(0x1F40D)}, raw=True)",
    "display({'text/plain': chr(92) * 3_000_000}, raw=True)",
    "print(chr(1) * 1_000_000)",
)
"""Code whose results are large as text, when they are decoded, and in JSON."""


@contextmanager
def _long_history(service: Service, paths: list[str]) -> Iterator[Attack]:
    """Run large cells in a session, and yield an attack that reads some addresses at the same time."""
    with new_session(service) as session:
        for code in _LARGE * 2:
            assert session.run(code, timeout_ms=20_000)["error"] is None
        # The description follows when the registry has the last result.
        session.describe()
        yield lambda service: _read(service, session, paths)


def _read(service: Service, session: Session, paths: list[str]) -> None:
    def read(path: str) -> int:
        with httpx.stream("GET", f"{service.base_url}{session.url}{path}", timeout=120) as response:
            assert response.status_code == 200
            return sum(len(chunk) for chunk in response.iter_bytes())

    with ThreadPoolExecutor(len(paths)) as threads:
        assert min(threads.map(read, paths)) > 2_000_000


def many_readers(service: Service) -> AbstractContextManager[Attack]:
    """Several clients read a long history in pages at the same time."""
    paths = ["/cells?limit=1000", "/cells?limit=1000&images=ref"]
    return _long_history(service, paths * 2)


def many_notebooks(service: Service) -> AbstractContextManager[Attack]:
    """Several clients export the same long history at the same time."""
    return _long_history(service, ["/notebook"] * 4)


def endless_history(service: Service) -> None:
    """The registry keeps the newest results of a key, however much the key prints."""
    registry = service.storage / "registry.sqlite3"
    with new_session(service) as session:
        for _ in range(60):
            session.run("print('x' * 1_000_000)")
        cells = session.cells()
        assert cells[0]["removed"] == "result"
        assert cells[-1]["removed"] is None
    with closing(sqlite3.connect(registry)) as database:
        size = database.execute("SELECT sum(code_bytes + result_bytes) FROM cells").fetchone()[0]
    assert size <= _HISTORY_BYTES


@contextmanager
def many_executions(service: Service) -> Iterator[Attack]:
    """Several clients list executions with large code, in pages of 4 MiB of code."""
    for _ in range(12):
        service.api.run(f"{'#' * 900_000}\n1")

    def read(_: int) -> int:
        number, after = 0, None
        while True:
            page = _executions(service, after)
            assert sum(len(one["code"] or "") for one in page["executions"]) <= 4 << 20
            number, after = number + len(page["executions"]), page["next"]
            if after is None:
                return number

    def attack(_: Service) -> None:
        with ThreadPoolExecutor(4) as threads:
            assert min(threads.map(read, range(4))) >= 12

    yield attack


def _executions(service: Service, after: str | None) -> Any:
    parameters = {"limit": "1000"} | ({} if after is None else {"after": after})
    return service.api.http.get("/v1/executions", params=parameters).json()


ATTACKS: Final[dict[str, Attack]] = {"history of a key": endless_history}

PREPARED: Final[dict[str, Callable[[Service], AbstractContextManager[Attack]]]] = {
    "page of the cells of a session": many_readers,
    "exported notebook": many_notebooks,
    "page of executions": many_executions,
}
"""Attacks that need something before the service is watched."""
