"""Serve the page at ``/``: a notebook in the browser.

The files are read once, at the start. Their content security policy allows no other source.
The page uses the public API with the caller's key. It shows the outputs of code in ``frame.html``:
a document without an origin and without a network, which runs only its own script.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import service
from service.http.assets import HEADERS, MEDIA_TYPES, Asset, endpoint
from service.settings import Settings

SETTINGS: Final = "/page/settings.json"

_FOLDER: Final = Path(__file__).with_name("static")
_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

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


@cache
def assets() -> Mapping[str, Asset]:
    """Return the page's files, by the URL path at which each is served."""
    files = (file for file in _FOLDER.rglob("*") if file.suffix in MEDIA_TYPES)
    names = sorted(file.relative_to(_FOLDER).as_posix() for file in files)
    return {"/" if name == "index.html" else f"/page/{name}": _read(name) for name in names}


def _read(name: str) -> Asset:
    content = (_FOLDER / name).read_bytes()
    return Asset(content, Path(name).suffix, _policy(name, content))


def _policy(name: str, content: bytes) -> str:
    if name != "frame.html":
        return _PAGE_POLICY
    hashes = (
        base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _SCRIPT.findall(content)
    )
    return _FRAME_POLICY.format(script=" ".join(f"'sha256-{digest}'" for digest in hashes))


def install_page(app: FastAPI, settings: Settings) -> None:
    """Add the routes of the page, and of the settings that the page needs before it has a key."""
    for path, asset in assets().items():
        app.add_route(path, endpoint(asset), include_in_schema=False)
    limits = {
        "version": service.__version__,
        "needs_key": settings.keys.needs_key,
        "max_exec_timeout_ms": settings.execution.session_exec_timeout_ms,
        "max_file_bytes": settings.storage.max_file_bytes,
    }

    async def send_settings(_: Request) -> Response:
        return JSONResponse(limits, headers={**HEADERS, "Cache-Control": "no-store"})

    app.add_route(SETTINGS, send_settings, include_in_schema=False)


def paths() -> frozenset[str]:
    """Return the URL paths of the page, which need no key."""
    return frozenset(assets()) | {SETTINGS}
