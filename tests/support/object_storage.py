"""An S3 server for tests: the process `tests/s3_server`, which refuses requests on demand."""

import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.process import free_port

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
KEY = "of-the-tests"
_START_SECONDS = 60.0
_CONTROL = "/_refuse"
_PYTHON = ROOT / ".cache/s3-server/bin/python"


class ObjectStorageServer:
    """The server. The constructor starts it, and `settings` returns what a service needs to use it."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        assert _PYTHON.exists(), "these tests need an S3 server: scripts/setup-test-tools installs it"
        port = free_port()
        self.url = f"http://{address}:{port}"
        self._process = subprocess.Popen(
            [_PYTHON, ROOT / "tests/s3_server/server.py", address, str(port)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._http = httpx.Client(base_url=self.url, timeout=30)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return self._http.get("/").is_success
        except httpx.TransportError:
            return False

    def new(self) -> str:
        """Make an empty bucket, and return the URL of a prefix in it."""
        bucket = f"b{uuid.uuid4().hex}"
        assert self._http.put(f"/{bucket}").is_success
        return f"s3://{bucket}/of/the/service"

    def settings(self, url: str) -> dict[str, str]:
        """Return the environment of a service that stores its files below a URL."""
        return {
            "FILE_STORAGE_URL": url,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_REGION": REGION,
        }

    def objects(self, url: str) -> dict[str, bytes]:
        """Return the contents of all objects below a URL, by their names."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        listed = self._http.get(f"/{bucket}", params={"prefix": prefix}).text
        keys = [part.partition("</Key>")[0] for part in listed.split("<Key>")[1:]]
        return {key.removeprefix(f"{prefix}/"): self._http.get(f"/{bucket}/{key}").content for key in keys}

    def unfinished(self, url: str) -> int:
        """Return the number of unfinished multipart uploads in the bucket of a URL."""
        bucket = url.removeprefix("s3://").partition("/")[0]
        return self._http.get(f"/{bucket}", params={"uploads": ""}).text.count("<UploadId>")

    def put(self, url: str, name: str, content: bytes) -> None:
        """Store an object below a URL."""
        assert self._http.put(f"/{url.removeprefix('s3://')}/{name}", content=content).is_success

    @contextmanager
    def refusing(self, status: int, code: str, method: str = "") -> Iterator[None]:
        """Answer with an error during the block: every request, or those with one method."""
        refusal = {"status": str(status), "code": code, "method": method}
        assert self._http.get(_CONTROL, params=refusal).is_success
        try:
            yield
        finally:
            assert self._http.get(_CONTROL).is_success

    def close(self) -> None:
        """Stop the server."""
        self._process.kill()
        self._process.wait()
        self._http.close()
