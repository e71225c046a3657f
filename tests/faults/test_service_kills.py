"""Tests that kill the service at each stage of a call: acknowledged files are kept."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest

from tests.conftest import LIGHT, serving
from tests.faults.conftest import canary
from tests.support.process import Service
from tests.support.session import live_sessions


@pytest.fixture(scope="module")
def mortal(open_service: Callable[..., Service]) -> Iterator[Service]:
    """Return a service that the tests kill repeatedly."""
    yield from serving(open_service, **LIGHT, POOL_SIZE=1)


def uploading(service: Service) -> None:
    """Upload a file that takes long."""

    def content() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="slow"\r\n\r\n'
        for _ in range(500):
            yield b"x" * 20_000
            time.sleep(0.01)
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    service.api.http.post("/v1/files", content=content(), headers=headers)


def staging(service: Service) -> None:
    """Send a call with many inputs."""
    file_id = service.api.upload(b"x" * 100_000)
    service.api.execute("1", files=[{"path": f"{i}.bin", "file_id": file_id} for i in range(500)])


def running(service: Service) -> None:
    """Send a call that runs for some time."""
    service.api.execute("import time; time.sleep(9)")


def streaming(service: Service) -> None:
    """Read a stream."""
    service.api.stream("import time\nfor i in range(900): print(i, flush=True); time.sleep(0.01)")


def collecting(service: Service) -> None:
    """Send a call that leaves many files."""
    service.api.execute("for i in range(250):\n  with open(f'{i}', 'wb') as f: _ = f.write(b'x' * 200_000)")


def opening(service: Service) -> None:
    """Open and end sessions."""
    while True:
        session_id = service.api.http.post("/v1/sessions", json={}).json()["session_id"]
        service.api.http.delete(f"/v1/sessions/{session_id}")


@pytest.mark.parametrize("stage", [uploading, staging, running, streaming, collecting, opening])
def test_a_killed_service_starts_again(mortal: Service, stage: Callable[[Service], None]) -> None:
    """Acknowledged files are complete, no partial file is listed, and no old container is used."""
    kept = mortal.api.upload(b"kept")
    (made,) = mortal.api.run("with open('made.txt', 'w') as f: _ = f.write('made')")["files"]

    def work() -> None:
        with suppress(httpx.HTTPError, RuntimeError):  # the service is killed during the call
            stage(mortal)

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(1)
    left = mortal.engine.kernels(mortal.instance_id)
    mortal.crash()
    worker.join(60)
    assert not worker.is_alive()
    mortal.restart()
    canary(mortal, {kept: b"kept", made["file_id"]: b"made"})
    for file in mortal.api.http.get("/v1/files").json()["files"]:
        assert len(mortal.api.download(file["file_id"])) == file["size_bytes"]
        mortal.api.http.delete(f"/v1/files/{file['file_id']}")
    # A session whose caller never got the response is listed and lives until it expires.
    for session_id in live_sessions(mortal.api):
        assert mortal.api.http.delete(f"/v1/sessions/{session_id}").status_code == 204
    deadline = time.monotonic() + 60
    while left & mortal.engine.kernels(mortal.instance_id):
        assert time.monotonic() < deadline, "containers of the life before are still there"
        time.sleep(0.2)
