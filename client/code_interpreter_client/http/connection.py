"""The HTTP parts that both clients share: a `Request` becomes httpx's, and a body becomes a file."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import httpx

from code_interpreter_client import configuration
from code_interpreter_client.http.exchange import Progress, Request
from code_interpreter_client.http.sources import async_chunks, chunks, size_of
from code_interpreter_client.version import __version__

_CONNECT_SEC: Final = 10.0


class Connection:
    """The service's address, and the headers and timeouts of requests to it."""

    def __init__(self, url: str | None, api_key: str | None, timeout: float) -> None:
        self.url = str(configuration.service_url(url)).rstrip("/")
        self._timeout_sec = timeout
        own = {"User-Agent": f"code-interpreter-client/{__version__}"}
        self._headers = own | configuration.headers(api_key)

    @contextmanager
    def built(self, http: httpx.Client | httpx.AsyncClient, request: Request) -> Iterator[httpx.Request]:
        """Build httpx's request. The file that it sends is open until the block ends."""
        if request.source is None:
            yield http.build_request(request.method, self._at(request), **self._options(request))
            return
        with request.source.open() as file:
            if request.form_file is not None:
                content: dict[str, Any] = {"files": {"file": (request.form_file.name, file)}}
            else:
                content = _body(file, is_async=isinstance(http, httpx.AsyncClient))
            yield http.build_request(request.method, self._at(request), **self._options(request, **content))

    def _at(self, request: Request) -> str:
        return f"{self.url}/{request.path}"

    def _options(
        self, request: Request, headers: Mapping[str, str] | None = None, **content: Any
    ) -> dict[str, Any]:
        read_sec = self._timeout_sec + request.seconds
        return content | {
            "headers": {**self._headers, **(headers or {})},
            "params": dict(request.params) or None,
            "json": request.json,
            "timeout": httpx.Timeout(self._timeout_sec, connect=_CONNECT_SEC, read=read_sec),
        }


def _body(file: BinaryIO, *, is_async: bool) -> dict[str, Any]:
    size = size_of(file)
    return {
        "content": async_chunks(file) if is_async else chunks(file),
        "headers": {} if size is None else {"Content-Length": str(size)},
    }


@contextmanager
def saving(response: httpx.Response, target: Path, progress: Progress | None) -> Iterator[BinaryIO]:
    """Open a file for the response's body. It becomes `target` when the whole body has been written."""
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    with _new_file(target) as file:
        yield _Counted(file, total, progress) if progress else file  # type: ignore[misc]


class _Counted:
    """A file that reports how much has been written to it."""

    def __init__(self, file: BinaryIO, total: int | None, progress: Progress) -> None:
        self._file = file
        self._total = total
        self._progress = progress
        self._written = 0

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._written += len(chunk)
        self._progress(self._written, self._total)


@contextmanager
def _new_file(target: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `target` if the block succeeds and is deleted if it fails."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
