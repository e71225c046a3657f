"""The few calls to a Docker engine that are made before there is a service, over its socket."""

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
    """The engine's answer is an error; the text is the engine's."""


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_SEC, blocksize=_BLOCK_BYTES)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class EngineApi:
    """An engine at a socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            with self._call("GET", "/_ping"):
                return True
        except (OSError, http.client.HTTPException):
            return False

    def image(self, name: str) -> dict[str, Any] | None:
        """What it says of an image, or None if it has none of that name."""
        try:
            with self._call("GET", f"/images/{quote(name, safe=':/@')}/json") as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except EngineRefused:
            return None

    def forget_image(self, image_id: str) -> None:
        """`docker image rm`, unless a container still uses it."""
        with suppress(EngineRefused), self._call("DELETE", f"/images/{image_id}"):
            pass

    def import_image(self, name: str, archive: IO[bytes], changes: Iterable[str]) -> None:
        """`docker import`: an image of one layer. Raises `EngineRefused`."""
        repository, _, tag = name.rpartition(":")
        query = [("fromSrc", "-"), ("repo", repository), ("tag", tag)]
        query += [("changes", change) for change in changes]
        self._send(f"/images/create?{urlencode(query)}", archive)

    def load(self, archive: Path) -> None:
        """`docker load`. Raises `EngineRefused`."""
        with archive.open("rb") as content:
            self._send("/images/load?quiet=1", content)

    def _send(self, path: str, archive: IO[bytes]) -> None:
        with self._call("POST", path, archive) as answer:
            for line in answer:
                if "error" in (said := json.loads(line)):
                    raise EngineRefused(said["error"])

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
