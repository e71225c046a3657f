"""A service that the benchmark starts, on a free TCP port and with its own storage."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from bench.engine import Engine
from bench.process import Process
from bench.progress import say

_ROOT = Path(__file__).resolve().parents[1]
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
)
"""Variables that the service gets from this environment. All other settings are defaults or arguments."""
_READY_SEC = 120.0
_STOP_SEC = 60.0
_QUIET_SEC = 0.5
"""Time to wait with a full pool, so that the removal of the last container has finished."""


class ServiceFailed(Exception):
    """The service did not start, or an answer was not as expected."""


class Service:
    """A service that runs during a `with` block. Keyword arguments are settings: `POOL_SIZE="1"`."""

    def __init__(self, engine: Engine, **settings: str) -> None:
        self._engine = engine
        self._settings = settings
        self._folder = tempfile.TemporaryDirectory(prefix="code-interpreter-bench-")
        self._log = Path(self._folder.name) / "service.log"
        self.storage = Path(self._folder.name) / "storage"
        self.instance_id = ""
        self.started = 0.0
        """Start of the process, by `time.perf_counter`."""

    def __enter__(self) -> Self:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "FILE_STORAGE_DIR": str(self.storage),
            "REGISTRY_KEY": "the registry's key of the benchmarks",
            "PYTHON_EXECUTOR_DOCKER_IMAGE": self._engine.image,
            **self._settings,
        }
        if "REPLICA_SECRET" in environment:
            environment["REPLICA_URL"] = f"http://127.0.0.1:{port}"
        self.started = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service"],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.process = Process(self._process.pid)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None)
        try:
            self._wait_until(self._is_up)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self.http.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP_SEC)
        except subprocess.TimeoutExpired:
            self._process.kill()
            say("the service did not stop and was killed")
        self._folder.cleanup()

    def settle(self) -> None:
        """Wait until the pool is full and no kernel is busy.

        Raises:
            ServiceFailed: the service ended, or did not settle in time.
        """
        self._wait_until(self._is_settled)
        time.sleep(_QUIET_SEC)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_SEC
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceFailed(f"the service is not ready:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.05)

    def _is_up(self) -> bool:
        try:
            answer = self.http.get("/ready")
        except httpx.TransportError:
            return False
        self.instance_id = answer.json()["instance_id"]
        return answer.status_code == 200

    def _is_settled(self) -> bool:
        pool = self.http.get("/ready").json()["pool"]
        return bool(pool["ready"] >= pool["target"] and pool["starting"] == pool["busy"] == 0)

    def execute(self, code: str, **fields: Any) -> dict[str, Any]:
        """Run code with `POST /v1/execute`, and return its result.

        Raises:
            ServiceFailed: the request or the code failed.
        """
        body = {"code": code, "timeout_ms": 10_000, **fields}
        answer = self.http.post("/v1/execute", json=body)
        result: dict[str, Any] = answer.json()
        if answer.status_code != 200 or result["exit_code"] != 0:
            raise ServiceFailed(f"{answer.status_code}: {answer.text[:2000]}")
        return result
