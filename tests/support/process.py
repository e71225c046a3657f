"""The service under test: a separate process with its own port, whose log is kept."""

import contextlib
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from service.database.registries.container_registry import place_of_kernel_key, place_of_token
from service.database.secret_box import SecretBox
from sessions.records import ContainerRecord
from tests.support.api import Api
from tests.support.engine import IMAGE, Engine

ROOT = Path(__file__).resolve().parents[2]
INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
)
"""Variables of the tests' environment that the service gets. All settings come from the test."""
REGISTRY_KEY = "the registry's key of the tests"
READY_SECONDS = 90.0
STOP_SECONDS = 45.0


def serve_to_the_end(folder: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start a service that must refuse to serve, wait for its end, and return its log as output."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | {
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "FILE_STORAGE_DIR": str(folder),
        "REGISTRY_KEY": REGISTRY_KEY,
        "PYTHON_EXECUTOR_DOCKER_IMAGE": IMAGE,
        "POOL_SIZE": "1",
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )


def free_port() -> int:
    """Return an unused TCP port, outside the range that the system assigns."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Service:
    """A service process with its storage. The constructor starts it, and waits until it is ready."""

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        program: Sequence[str] = ("service",),
        **settings: str,
    ) -> None:
        """`program` is a module that serves as `service.server` does, with its arguments."""
        self._program = program
        self.engine = engine
        self.storage = folder / "storage"
        self.log_path = folder / "service.log"
        self.instance_id = ""
        self.finished = False
        self._mark = 0
        self._settings = settings
        self._start()

    def _start(self) -> None:
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}"
        self.api = Api(self.base_url)
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "FILE_STORAGE_DIR": str(self.storage),
            "REGISTRY_KEY_FILE": str(self.log_path.with_name("registry.key")),
            "PYTHON_EXECUTOR_DOCKER_IMAGE": IMAGE,
            "PYTHONUNBUFFERED": "1",
            **self.engine.settings,
            **self._settings,
        }
        if "REPLICA_SECRET" in environment:
            environment["REPLICA_URL"] = self.base_url
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self._program],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.instance_id = self._wait_until_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            self.api.close()
            raise

    def _wait_until_ready(self) -> str:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the service ended at start:\n{self.log_tail()}")
            try:
                response = self.api.http.get("/ready")
            except httpx.TransportError:
                time.sleep(0.1)
                continue
            assert response.status_code in (200, 503), response.text
            if response.status_code == 200:
                instance_id: str = response.json()["instance_id"]
                return instance_id
            time.sleep(0.1)
        raise AssertionError(f"not ready after {READY_SECONDS} s:\n{self.log_tail()}")

    @property
    def running(self) -> bool:
        """Return whether the process runs."""
        return self.process.poll() is None

    def mark_log(self) -> None:
        """Store the current end of the log."""
        self._mark = self.log_path.stat().st_size

    def logged_since_mark(self) -> bool:
        """Return whether the service has logged anything since the mark, or since the start without one."""
        return self.log_path.stat().st_size > self._mark

    def log_tail(self, lines: int = 40, *, since_mark: bool = False) -> str:
        """Return the end of the log, without the lines of requests."""
        kept = self.log_path.read_bytes()[self._mark if since_mark else 0 :]
        log = kept.decode(errors="replace").splitlines()
        return "\n".join([line for line in log if "service.http.server.access_log" not in line][-lines:])

    def pool(self) -> dict[str, int]:
        """Return the counts of the pool: ready, starting, busy and target."""
        body: dict[str, Any] = self.api.http.get("/ready").json()
        pool = body["pool"]
        assert set(pool) >= {"ready", "starting", "busy", "target"}
        return {name: int(count) for name, count in pool.items()}

    def settle(self, seconds: float = 90.0, *, at_target: bool = True) -> set[str]:
        """Wait until no kernel is starting or busy and used containers are gone; return the ids of the rest.

        A surplus container stays for 30 s. With `at_target`, wait until there is none.
        """
        deadline = time.monotonic() + seconds
        while True:
            pool, ids = self.pool(), self.engine.kernels(self.instance_id)
            is_idle = pool["ready"] == len(ids) and pool["starting"] == pool["busy"] == 0
            if is_idle and (
                pool["ready"] == pool["target"] or (not at_target and pool["ready"] > pool["target"])
            ):
                return ids
            assert time.monotonic() < deadline, f"the pool did not settle: {pool}, {len(ids)} up"
            time.sleep(0.1)

    def container_secrets(self) -> dict[str, tuple[str, str]]:
        """Return the token and the kernel's key of each running container, as the service decrypts them."""
        box = SecretBox(self.log_path.with_name("registry.key").read_text().strip())
        with sqlite3.connect(self.storage / "registry.sqlite3") as registry:
            registry.row_factory = sqlite3.Row
            rows = registry.execute("SELECT * FROM containers WHERE removed_at IS NULL").fetchall()
        records = [ContainerRecord(**row) for row in rows]
        return {
            record.container_id: (
                box.open(record.token, *place_of_token(record)),
                box.open(record.kernel_key, *place_of_kernel_key(record.container_id)),
            )
            for record in records
        }

    def stored(self) -> set[str]:
        """Return the names in the storage folder, except the registry's own."""
        return {
            str(path.relative_to(self.storage))
            for path in self.storage.rglob("*")
            if path.is_file() and path.name != "lock" and not path.name.startswith("registry.sqlite3")
        }

    def resident_kb(self) -> int:
        """Return the resident memory of the service's process, in KiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("the process has ended")

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """Stop the service and wait until it has ended."""
        self.process.send_signal(with_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"the service did not stop on {with_signal.name}:\n{self.log_tail()}"
            ) from None
        finally:
            self.api.close()

    def crash(self) -> None:
        """Kill the service with SIGKILL, as a power cut would end it."""
        self.process.kill()
        self.process.wait()
        self.api.close()

    def restart(self, **settings: str) -> None:
        """Start the service again with the same storage and the given changes, after `stop` or `crash`."""
        assert not self.running
        self._settings |= settings
        self._start()

    def finish(self) -> None:
        """Stop the service if it runs, and fail if it leaves a container or network."""
        self.finished = True
        try:
            if self.running:
                self.stop()
        finally:
            left = self._remove_leftovers() if self.instance_id else set()
        assert left == set(), f"left behind by {self.instance_id}:\n{self.log_tail()}"

    def _remove_leftovers(self) -> set[str]:
        containers = self.engine.owned(self.instance_id)
        for container_id in containers:
            self.engine.remove(container_id)
        networks = self.engine.networks(self.instance_id)
        for name in networks:
            self.engine.remove_network(name)
        return containers | networks
