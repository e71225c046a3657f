"""PostgreSQL transactions and statements for each kind of call.

    python -m bench.database postgresql://…/empty s3://bucket/empty

Two replicas get the calls, and `pg_stat_statements` is read before and after. The statements of idle
replicas are subtracted. The server needs `shared_preload_libraries=pg_stat_statements`; `AWS_*` configure the
storage.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any, Final

import httpx
import psycopg

from bench.engine import Engine
from bench.report import table
from bench.service import Service
from service.settings.containers import ContainerSettings

_CALLS: Final = 20
_IDLE_SEC: Final = 20.0
_SETTLE_SEC: Final = 2.0
"""Time for writes that follow the answer, and for containers that are started and removed."""
_COUNTED: Final = """
    SELECT coalesce(sum(calls) FILTER (WHERE query = 'BEGIN'), 0),
           coalesce(sum(calls) FILTER (WHERE query !~ '^(BEGIN|COMMIT|ROLLBACK|SELECT \\$1|)$'), 0)
    FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND query !~ 'pg_stat_statements'
"""
Counts = tuple[float, float]


class _Counter:
    """Counts the transactions and statements of other connections to a database."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        self._idle: Counts = (0.0, 0.0)

    def count(self, work: Callable[[], object], times: int = 1) -> Counts:
        """Do `work` several times, and return its transactions and statements per time."""
        before, began = self._now(), time.monotonic()
        for _ in range(times):
            work()
        time.sleep(_SETTLE_SEC)
        seconds = time.monotonic() - began
        more = [after - first for after, first in zip(self._now(), before, strict=True)]
        return (more[0] - self._idle[0] * seconds) / times, (more[1] - self._idle[1] * seconds) / times

    def idle(self) -> Counts:
        """Measure the transactions and statements per second without calls, and subtract them from now on."""
        found = self.count(lambda: time.sleep(_IDLE_SEC))
        seconds = _IDLE_SEC + _SETTLE_SEC
        self._idle = (found[0] / seconds, found[1] / seconds)
        return self._idle

    def _now(self) -> Counts:
        row = self._connection.execute(_COUNTED).fetchone()
        assert row is not None
        return float(row[0]), float(row[1])


def measure(engine: Engine, database: str, storage: str) -> list[list[str]]:
    """Return the rows of the table: call, transactions, statements."""
    shared = {
        "DATABASE_URL": database,
        "FILE_STORAGE_URL": storage,
        "REPLICA_SECRET": "of-the-benchmark-alone",
        "KERNEL_PRELOAD": "none",
        "POOL_SIZE": "1",
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
    }
    rows: list[tuple[str, Counts]] = []
    with Service(engine, **shared) as first, Service(engine, **shared) as second:
        http, other_http = first.http, second.http
        counter = _Counter(database)
        both = counter.idle()
        rows.append(("an idle replica, per second", (both[0] / 2, both[1] / 2)))

        def post(http: httpx.Client, path: str, **body: Any) -> Any:
            return http.post(path, json=body).raise_for_status().json()

        def count(name: str, work: Callable[[], object]) -> None:
            rows.append((name, counter.count(work, _CALLS)))

        session = f"/v1/sessions/{post(http, '/v1/sessions')['session_id']}"
        file_id = http.post("/v1/files", files={"file": ("a", b"1")}).raise_for_status().json()["file_id"]
        inputs = [{"path": "a", "file_id": file_id}]
        count("a one-shot execution, with its container", lambda: post(http, "/v1/execute", code="1"))
        count("a cell of a session", lambda: post(http, f"{session}/execute", code="1"))
        slow = "import time; time.sleep(0.1)"
        count("a cell that takes longer than 50 ms", lambda: post(http, f"{session}/execute", code=slow))
        count(
            "a cell with a stored file as input",
            lambda: post(http, f"{session}/execute", code="1", files=inputs),
        )
        count(
            "a cell that is forwarded to the other replica",
            lambda: post(other_http, f"{session}/execute", code="1"),
        )
        count("a shell command", lambda: post(http, f"{session}/bash", cmd="true"))
        count("reading a session", lambda: http.get(session).raise_for_status())
        count("listing sessions", lambda: http.get("/v1/sessions").raise_for_status())
        count("uploading a stored file", lambda: http.post("/v1/files", files={"file": ("a", b"1")}))
        count("downloading a stored file", lambda: http.get(f"/v1/files/{file_id}").raise_for_status())

        def open_and_end() -> None:
            opened = post(http, "/v1/sessions")["session_id"]
            http.delete(f"/v1/sessions/{opened}").raise_for_status()

        count("opening and ending a session, with its container", open_and_end)
        http.delete(session).raise_for_status()
    return [[name, f"{transactions:.1f}", f"{statements:.1f}"] for name, (transactions, statements) in rows]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database", help="URL of an empty database")
    parser.add_argument("storage", help="URL of an empty object storage")
    arguments = parser.parse_args()
    rows = measure(
        Engine(ContainerSettings().python_executor_docker_image), arguments.database, arguments.storage
    )
    print(table(["", "transactions", "statements"], rows))


if __name__ == "__main__":
    main()
