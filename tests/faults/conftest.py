"""Fixtures of fault tests: a check that the service works again, a container's processes, small disks."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import GENEROUS, LIGHT
from tests.support.engine import Engine
from tests.support.process import INHERITED, REGISTRY_KEY, ROOT, Service

RECOVERY_SECONDS = 60.0
"""Seconds after a fault in which calls may be refused with an error code."""


def canary(service: Service, kept: Mapping[str, bytes] | None = None) -> None:
    """Check that a call soon works as before the fault, and that stored files are kept.

    Until then calls may be refused with 503 or 507, but no call is a 500 and none hangs.

    Args:
        kept: file ids and contents.
    """
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            response = service.api.execute("open('made.txt', 'w').write('made')\nprint(6 * 7)")
        except httpx.TransportError:
            response = None
        if response is not None and response.status_code == 200:
            break
        assert response is None or response.status_code in (503, 507), response.text
        assert time.monotonic() < deadline, f"no answer after {RECOVERY_SECONDS} s:\n{service.log_tail()}"
        time.sleep(0.2)
    result = response.json()
    assert (result["stdout"], result["exit_code"]) == ("42\n", 0), result
    assert service.api.returned(result) == {"made.txt": b"made"}
    for file_id, content in (kept or {}).items():
        assert service.api.download(file_id) == content


def processes(engine: Engine, container_id: str) -> dict[str, int]:
    """Return the ids, on this machine, of a container's supervisor, zygote and newest kernel."""
    supervisor = int(engine.inspect(container_id)["State"]["Pid"])
    (zygote,) = (pid for pid in _children(supervisor) if b"kernel_image.kernel.zygote" in _command(pid))
    return {"supervisor": supervisor, "zygote": zygote, "kernel": max(_children(zygote))}


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    """Return the process ids of all descendants of a process."""
    children = _children(pid)
    return children + [descendant for child in children for descendant in descendants(child)]


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of that size at the folder for the block."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def as_root() -> None:
    """Skip the test if this user cannot kill the processes of a container."""
    if os.geteuid():
        pytest.skip("this user may not kill the processes of a container")


@pytest.fixture(scope="session")
def shaken(open_service: Callable[..., Service], as_root: None) -> Iterator[Service]:
    """Return a service whose containers the tests kill. The service itself keeps running."""
    service = open_service(**GENEROUS, MAX_SESSIONS=32)
    identity = service.process.pid
    yield service
    assert service.running and service.process.pid == identity
    service.finish()


def refused(storage: Path, seconds: float = 60, **settings: Any) -> str:
    """Start a service that must not start, and return the one line with the reason."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {
        "HOST": "127.0.0.1",
        "PORT": "0",
        "FILE_STORAGE_DIR": str(storage),
        "REGISTRY_KEY": REGISTRY_KEY,
        "LOG_LEVEL": "WARNING",
    }
    environment |= {name: str(value) for name, value in (LIGHT | settings).items()}
    ended = subprocess.run(
        [sys.executable, "-m", "service"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert ended.returncode in (1, 3), ended
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.stderr
