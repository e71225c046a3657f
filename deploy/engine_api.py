"""The calls to a Docker engine that are made before the service starts, over the engine's socket."""

import http.client
import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote, urlencode

_ANSWER_SEC: Final = 600.0
_BLOCK_BYTES: Final = 1 << 20


class EngineRefused(OSError):
    """The engine returned an error. The text is the engine's."""


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_SEC, blocksize=_BLOCK_BYTES)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class EngineApi:
    """A client of the engine at a socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def answers(self) -> bool:
        """Whether the engine is up."""
        try:
            with self._call("GET", "/_ping"):
                return True
        except (OSError, http.client.HTTPException):
            return False

    def image(self, name: str) -> dict[str, Any] | None:
        """Return the engine's description of an image; None if it has none of that name."""
        try:
            with self._call("GET", f"/images/{quote(name, safe=':/@')}/json") as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except EngineRefused:
            return None

    def remove_image(self, image_id: str) -> None:
        """Remove an image (`docker image rm`), unless a container uses it."""
        with suppress(EngineRefused), self._call("DELETE", f"/images/{image_id}"):
            pass

    def import_image(self, name: str, archive: IO[bytes], changes: Iterable[str]) -> None:
        """Make an image of one layer from an archive (`docker import`).

        Raises:
            EngineRefused: the engine refused.
        """
        repository, _, tag = name.rpartition(":")
        query = [("fromSrc", "-"), ("repo", repository), ("tag", tag)]
        query += [("changes", change) for change in changes]
        self._send(f"/images/create?{urlencode(query)}", archive)

    def load(self, archive: Path) -> None:
        """Load images from an archive (`docker load`).

        Raises:
            EngineRefused: the engine refused.
        """
        with archive.open("rb") as content:
            self._send("/images/load?quiet=1", content)

    def _send(self, path: str, archive: IO[bytes]) -> None:
        with self._call("POST", path, archive) as answer:
            for line in answer:
                if "error" in (event := json.loads(line)):
                    raise EngineRefused(event["error"])

    @contextmanager
    def _call(
        self, method: str, path: str, body: IO[bytes] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _SocketConnection(self._path)
        try:
            headers = {} if body is None else {"Content-Type": "application/x-tar"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise EngineRefused(answer.read(2000).decode(errors="replace"))
            yield answer
        finally:
            connection.close()
