"""The application: routes, errors and limits put together. What they work on is the lifespan's."""

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI

import service
from service.body_limit import BodyLimit
from service.errors import install_error_handlers
from service.routes import files, session_files
from service.settings import Settings
from service.stream_schemas import COMPONENTS

_STREAMED = re.compile(f"{files.UPLOADS.pattern}|{session_files.UPLOADS.pattern}")
"""Paths whose bodies are streamed and bounded by their routes."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class _Application(FastAPI):
    """FastAPI, whose OpenAPI document knows the events of a stream, too."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).update(COMPONENTS)
        return document


def create_app(settings: Settings, lifespan: Lifespan, routers: Iterable[APIRouter]) -> FastAPI:
    """Make the application.

    Args:
        settings: kept as ``app.state.settings``.
        lifespan: opens what the routes need into ``app.state``, and closes it at the end.
        routers: the routes; all of them, or a part that needs less.
    """
    app = _Application(
        title="Code Interpreter",
        version=service.__version__,
        summary="Runs untrusted Python in locked-down containers and gives back what it made.",
        license_info={"name": "MIT"},
        lifespan=lifespan,
    )
    app.state.settings = settings
    for router in routers:
        app.include_router(router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_request_bytes, exempt=_STREAMED)
    install_error_handlers(app)
    return app
