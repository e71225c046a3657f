"""Serve `/docs` (Swagger UI) and `/redoc` (Redoc), with the libraries of this package.

The page at `/` keeps the API key on the same origin. So these pages run scripts of this package only, and the
content security policy of each allows no other source. `scripts/vendor-api-pages` fetched the libraries.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from service.http.assets import MEDIA_TYPES, Asset, endpoint

_FOLDER: Final = Path(__file__).with_name("static")
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src {style}; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_STYLES: Final = {"redoc.html": "'unsafe-inline'"}
"""Sources of style sheets, where they are not the service. Redoc makes its own while it runs."""


@cache
def assets() -> Mapping[str, Asset]:
    """Return the files of the pages, by the URL path at which each is served."""
    files = sorted(file for file in _FOLDER.rglob("*") if file.suffix in MEDIA_TYPES)
    return {_path(file): _read(file) for file in files}


def _path(file: Path) -> str:
    return f"/{file.stem}" if file.suffix == ".html" else f"/docs/{file.name}"


def _read(file: Path) -> Asset:
    policy = _POLICY.format(style=_STYLES.get(file.name, "'self'"))
    return Asset(file.read_bytes(), file.suffix, policy)


def install_api_pages(app: FastAPI) -> None:
    """Add the routes of the pages."""
    for path, asset in assets().items():
        app.add_route(path, endpoint(asset), include_in_schema=False)


def paths() -> frozenset[str]:
    """Return the URL paths of the pages."""
    return frozenset(assets())
