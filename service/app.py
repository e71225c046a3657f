"""Creates the application from routes, middleware and error handlers. The lifespan opens what they use."""

import socket
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.routing import Route, WebSocketRoute

import service
from service.api_pages import routes as api_pages
from service.api_pages.routes import install_api_pages
from service.auth.keyring import Keyring
from service.auth.limits import RequestRate, WrongKeyRate
from service.gateway import errors as gateway
from service.http.answers import ANSWERS, Answers, install_error_handlers
from service.http.body_limit import BodyLimit
from service.http.browsers import KnownHosts
from service.http.forwarding import forward_to_holder
from service.http.guard import ALWAYS_OPEN, Guard
from service.http.signatures import Signer
from service.page import routes as page
from service.page.routes import install_page
from service.routes.api_document import DESCRIPTION, TAGS, Application, operation_id
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.traces import open_traces
from sessions.errors import SessionElsewhere

PAGES: Final = {
    "docs": api_pages.paths() | {"/openapi.json"},
    "metrics": frozenset({"/metrics"}),
    "page": page.paths(),
}
"""Paths that the setting `OPEN_PAGES` opens to callers without a key, by the values of the setting."""

ALL_ANSWERS: Final[Answers] = {**ANSWERS, **gateway.ANSWERS}
"""The responses to all errors, including those of the Jupyter gateway."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(settings: Settings, lifespan: Lifespan, routers: Iterable[APIRouter]) -> FastAPI:
    """Create the application.

    Args:
        settings: stored as ``app.state.settings``.
        lifespan: opens what the routes need, stores it in ``app.state``, and closes it at the end.
        routers: the routes to serve.

    Raises:
        KeyFileInvalid: the file with the API keys cannot be used.
        OtlpMissing: the settings ask for traces, but OpenTelemetry is not installed.
        OtlpUnusable: the environment variables of OpenTelemetry are invalid.
    """
    app = Application(
        title="Code Interpreter",
        version=service.__version__,
        summary="Runs untrusted Python in locked-down containers and gives back what it made.",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        license_info={"name": "MIT"},
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
        docs_url=None,
        redoc_url=None,
        # FastAPI's own telemetry would export URLs with their queries, and messages of errors.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.metrics = Metrics()
    app.state.traces = open_traces(settings.telemetry, app.state.metrics)
    install_page(app, settings)
    install_api_pages(app)
    app.state.served = [route for route in app.routes if isinstance(route, Route | WebSocketRoute)]
    for router in routers:
        app.include_router(router)
        app.state.served += [route for route in router.routes if isinstance(route, Route | WebSocketRoute)]
    app.add_middleware(BodyLimit, max_bytes=settings.server.max_request_bytes)
    open_paths = frozenset[str]().union(*(PAGES[word] for word in settings.keys.open_pages))
    keyring = None
    if settings.keys.needs_key:
        keyring = Keyring(settings.keys.given_keys, settings.keys.api_keys_file)
        app.open_paths = ALWAYS_OPEN | open_paths
    rate = app.state.request_rate = RequestRate(settings.keys.limits.requests_per_minute)
    secret = settings.replicas.replica_secret
    signer = app.state.signer = (
        None if secret is None else Signer(secret.get_secret_value(), settings.replicas.replica_lease_sec)
    )
    app.add_middleware(
        Guard,
        keyring=keyring,
        rate=rate,
        open_paths=open_paths,
        closed_paths=frozenset[str]().union(*PAGES.values()) - open_paths,
        known_hosts=KnownHosts(settings.server.allowed_hosts, socket.gethostname()),
        wrong_keys=WrongKeyRate(settings.keys.wrong_keys_per_minute),
        count_wrong_key=app.state.metrics.wrong_key,
        signer=signer,
    )
    install_error_handlers(app, ALL_ANSWERS)
    app.add_exception_handler(SessionElsewhere, forward_to_holder)
    return app
