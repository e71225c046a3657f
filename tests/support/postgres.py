"""A PostgreSQL for the tests: a cluster in a temporary folder, reached by a Unix socket in it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.process import free_port

ROOT = Path(__file__).resolve().parents[2]
_UNPACKED = ROOT / ".cache/postgresql/usr/lib"
_PLACES = (_UNPACKED / "postgresql", Path("/usr/lib/postgresql"))
_ENVIRONMENT = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(_UNPACKED / "x86_64-linux-gnu")}
_START_SECONDS = 60.0
_OPTIONS = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "jit=off")


class PostgresMissing(Exception):
    """PostgreSQL is not installed; the text says what to do."""


def _programs() -> Path:
    for place in _PLACES:
        for initdb in sorted(place.glob("*/bin/initdb"), reverse=True):
            return initdb.parent
    raise PostgresMissing("these tests need PostgreSQL: scripts/setup-test-tools fetches it")


class Postgres:
    """One server with its databases, started on construction."""

    def __init__(self, address: str = "") -> None:
        """Start the server. With an address of this machine, it also accepts TCP connections there."""
        self._address = address
        self._port = free_port()
        self._bin = _programs()
        # A socket's path must be short, and PostgreSQL refuses to run as root.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        initdb = ("--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C")
        subprocess.run(
            [self._bin / "initdb", *initdb, "--pgdata", self._folder / "data"],
            user=self._user,
            env=_ENVIRONMENT,
            cwd=self._folder,
            check=True,
            capture_output=True,
        )
        if address:
            with (self._folder / "data/pg_hba.conf").open("a") as access:
                access.write("host all all samenet trust\n")
        self.start()

    def url(self, database: str) -> str:
        """Return the `DATABASE_URL` of a database."""
        if self._address:
            return f"postgresql://postgres@{self._address}:{self._port}/{database}"
        return f"postgresql://postgres@/{database}?host={self._folder}&port={self._port}"

    def new(self) -> str:
        """Make an empty database and return its URL."""
        name = f"d{uuid.uuid4().hex}"
        with self.connect("postgres") as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        """Return a connection that commits each statement."""
        return psycopg.connect(
            host=str(self._folder),
            port=self._port,
            user="postgres",
            dbname=database.rpartition("/")[2],
            autocommit=True,
        )

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        place = ("-c", f"listen_addresses={self._address}", "-p", str(self._port), "-k", self._folder)
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._bin / "postgres", "-D", self._folder / "data", *place, *_OPTIONS],
                user=self._user,
                env=_ENVIRONMENT,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            log_text = (self._folder / "log").read_text()
            assert self._server.poll() is None and time.monotonic() < deadline, log_text
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, with_signal: signal.Signals = signal.SIGINT) -> None:
        """Stop the server without waiting for its clients."""
        self._server.send_signal(with_signal)
        self._server.wait(60)

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Stop the server for the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def close(self) -> None:
        """Kill the server, and remove its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)
