"""The application: routes, errors and limits put together. What they work on is the lifespan's."""

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI

import service
from service.api_document import Application
from service.body_limit import BodyLimit
from service.errors import install_error_handlers
from service.guard import Guard, open_paths
from service.keyring import Keyring
from service.limits import RequestRate
from service.routes import files, session_files
from service.settings import Settings

_STREAMED = re.compile(f"{files.UPLOADS.pattern}|{session_files.UPLOADS.pattern}")
"""Paths whose bodies are streamed and bounded by their routes."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(settings: Settings, lifespan: Lifespan, routers: Iterable[APIRouter]) -> FastAPI:
    """Make the application.

    Args:
        settings: kept as ``app.state.settings``.
        lifespan: opens what the routes need into ``app.state``, and closes it at the end.
        routers: the routes; all of them, or a part that needs less.

    Raises:
        KeyFileInvalid: the file with the API keys cannot be used.
    """
    app = Application(
        title="Code Interpreter",
        version=service.__version__,
        summary="Runs untrusted Python in locked-down containers and gives back what it made.",
        license_info={"name": "MIT"},
        lifespan=lifespan,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.settings = settings
    for router in routers:
        app.include_router(router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_request_bytes, exempt=_STREAMED)
    keyring = None
    if settings.needs_key:
        keyring = Keyring(settings.given_keys, settings.api_keys_file)
        app.open_paths = open_paths(settings.open_pages)
    rate = app.state.request_rate = RequestRate(settings.key_limits.requests_per_minute)
    app.add_middleware(Guard, keyring=keyring, rate=rate, open_pages=settings.open_pages)
    install_error_handlers(app)
    return app
