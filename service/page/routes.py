"""``/``: a notebook in the browser. Its files are read once; the browser is told to trust nothing but them.

What the page does it does by the API and with the caller's key. What code shows is put into
``frame.html``, whose document has no origin, no network and no scripts but one of ours.
"""

import base64
import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import service
from service.http.downloads import matches
from service.settings import Settings

SETTINGS: Final = "/page/settings.json"

_FOLDER: Final = Path(__file__).with_name("static")
_MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",
}
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_FRAME_POLICY: Final = (
    "sandbox allow-scripts; default-src 'none'; script-src {script}; style-src 'unsafe-inline'; "
    "img-src data:; media-src data:; font-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)


@dataclass(frozen=True)
class _Asset:
    """A file of the page, ready to be sent."""

    content: bytes
    headers: Mapping[str, str]
    packed: bytes = field(repr=False)

    def answer(self, request: Request) -> Response:
        if matches(request.headers.get("if-none-match"), self.headers["ETag"].removeprefix("W/")):
            return Response(status_code=304, headers=dict(self.headers))
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.packed, headers={**self.headers, "Content-Encoding": "gzip"})
        return Response(self.content, headers=dict(self.headers))


@cache
def assets() -> Mapping[str, _Asset]:
    """The files of the page by their paths in the service's address."""
    files = (file for file in _FOLDER.rglob("*") if file.suffix in _MEDIA_TYPES)
    names = sorted(file.relative_to(_FOLDER).as_posix() for file in files)
    return {"/" if name == "index.html" else f"/page/{name}": _read(name) for name in names}


def _read(name: str) -> _Asset:
    content = (_FOLDER / name).read_bytes()
    headers = {
        **_HEADERS,
        "Content-Type": f"{_MEDIA_TYPES[Path(name).suffix]}; charset=utf-8",
        "Content-Security-Policy": _policy(name, content),
        "ETag": f'W/"{hashlib.sha256(content).hexdigest()[:32]}"',
        "Vary": "Accept-Encoding",
    }
    return _Asset(content, headers, gzip.compress(content, mtime=0))


def _policy(name: str, content: bytes) -> str:
    if name != "frame.html":
        return _PAGE_POLICY
    hashes = (
        base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _SCRIPT.findall(content)
    )
    return _FRAME_POLICY.format(script=" ".join(f"'sha256-{digest}'" for digest in hashes))


def install_page(app: FastAPI, settings: Settings) -> None:
    """Serve the page and what it has to know of the settings."""
    for path, asset in assets().items():
        app.add_route(path, _answering(asset), include_in_schema=False)
    limits = {
        "version": service.__version__,
        "needs_key": settings.keys.needs_key,
        "max_exec_timeout_ms": settings.execution.max_exec_timeout_ms,
        "max_file_bytes": settings.storage.max_file_bytes,
    }

    async def tell(_: Request) -> Response:
        return JSONResponse(limits, headers={**_HEADERS, "Cache-Control": "no-store"})

    app.add_route(SETTINGS, tell, include_in_schema=False)


def _answering(asset: _Asset) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return asset.answer(request)

    return answer


def paths() -> frozenset[str]:
    """All that is served here."""
    return frozenset(assets()) | {SETTINGS}
