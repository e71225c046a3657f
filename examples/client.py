"""A small client of the service that needs only Python. Copy it, or read it as an introduction to the API.

Its calls raise only ClientError, whose text is a sentence.
"""

import http.client
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:8000"
"""The address of `make run`."""

_SILENCE_SEC = 60


class ClientError(Exception):
    """The service does not answer, or refused the request. The text says why, or what to do."""


class Client:
    """A client of the service at `url`. `key` is the API key, if needed. Each call opens a connection."""

    def __init__(self, url: str = DEFAULT_URL, key: str = "") -> None:
        self.url = url.rstrip("/")
        self._headers = {"X-API-Key": key} if key else {}

    def version(self) -> str:
        """Check that the service works, and return its version."""
        health = self._json("GET", "/health")
        if health["status"] != "ok":
            raise ClientError(f"The service at {self.url} does not work: {health['message']}")
        return str(health["version"])

    def upload(self, path: Path) -> str:
        """Store a file as input for executions, and return its id."""
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"'
            "\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return str(self._json("POST", "/v1/files", body, kind)["file_id"])

    def download(self, file_id: str) -> bytes:
        """Return the content of a stored file."""
        with self._request("GET", f"/v1/files/{file_id}") as response:
            return response.read()

    def execute(self, code: str, **fields: Any) -> dict[str, Any]:
        """Run code and return its result. `fields` are other fields of the request; see the API."""
        body = json.dumps({"code": code, **fields}).encode()
        return self._json("POST", "/v1/execute", body, "application/json")

    def stream(self, code: str, **fields: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Run code and yield its events as they arrive: type and data. The last one is `result`."""
        body = json.dumps({"code": code, **fields}).encode()
        event = ""
        with self._request("POST", "/v1/execute/stream", body, "application/json") as response:
            for line in response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    data = json.loads(value)
                    if event == "error":
                        raise ClientError(f"The service lost this execution: {data['message']}")
                    yield event, data

    def _json(self, method: str, path: str, body: bytes = b"", kind: str = "") -> dict[str, Any]:
        with self._request(method, path, body, kind) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    @contextmanager
    def _request(
        self, method: str, path: str, body: bytes = b"", kind: str = ""
    ) -> Iterator[http.client.HTTPResponse]:
        address = urlsplit(self.url)
        secure = address.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        try:
            connection = connect(address.netloc, timeout=_SILENCE_SEC)
            connection.request(method, address.path + path, body, self._headers | {"Content-Type": kind})
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise ClientError(
                f"No code interpreter answers at {self.url} ({error}): "
                "start one with `make run`, or name another with --url."
            ) from error
        try:
            if response.status >= 400:
                raise ClientError(f"{method} {path} was refused: {_reason(response)}")
            yield response
        finally:
            connection.close()


def _reason(response: http.client.HTTPResponse) -> str:
    text = response.read().decode("utf-8", "replace")
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, TypeError, KeyError):
        detail = text[:500]
    return f"{response.status} {detail}"
