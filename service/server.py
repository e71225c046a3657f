"""The command ``serve``, which runs the service."""

import logging
import signal
import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from typing import Final

from service.app import create_app
from service.auth.keyring import SHORT_KEY
from service.errors import StartError
from service.gateway import channels, kernels
from service.http.server.serving import bind, serve
from service.lifespan import lifespan
from service.mcp import endpoint as mcp
from service.operations.banner import banner
from service.operations.pool_settings import REUSE
from service.routes import execute, executions, files, health, metrics, session_files, sessions
from service.settings import Settings, load_settings, unknown_variables
from service.settings.server import load_log_format
from service.telemetry.logs import configure_logging, say

ROUTERS: Final = (
    health.router,
    metrics.router,
    execute.router,
    executions.router,
    files.router,
    session_files.router,
    sessions.router,
    mcp.router,
    kernels.router,
    channels.router,
)

log = logging.getLogger(__name__)


def add_arguments(_: ArgumentParser) -> None:
    """Declare no arguments, because all settings come from the environment."""


def main(_: Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C, then stop in order.

    Returns:
        The exit status: 0; 2 if the settings are invalid; 1 if the service cannot start. If the engine or the
        registry cannot be opened, the server calls ``sys.exit(3)`` instead.
    """
    # uvicorn stops in order, and then raises the signal again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        settings = load_settings()
    except StartError as error:
        configure_logging("INFO", load_log_format())
        return _print_error(error, 2)
    configure_logging(settings.server.log_level, settings.server.log_format)
    try:
        app = create_app(settings, lifespan, ROUTERS)
        for sentence in unknown_variables():
            log.warning("%s", sentence)
        _warn_of_missing_keys(settings)
        with bind(settings.server.host, settings.server.port) as sock:
            app.state.socket = sock
            serve(
                app,
                settings.server.host,
                sock,
                settings.server.client_timeout_sec,
                settings.server.max_request_bytes,
                max_connections=settings.server.max_connections,
                banner_of=partial(
                    banner, reuse=REUSE[settings.pool.container_reuse], needs_key=settings.keys.needs_key
                ),
            )
    except StartError as error:
        return _print_error(error, 1)
    except KeyboardInterrupt:
        pass
    return 0


def _warn_of_missing_keys(settings: Settings) -> None:
    if not settings.keys.needs_key:
        log.warning(
            "No API keys are set: every program that reaches %s, port %d, can run code and read all files. "
            "Set API_KEYS or API_KEYS_FILE, or restrict the network access to the port.",
            settings.server.host,
            settings.server.port,
        )
    for name, key in settings.keys.given_keys.items():
        if len(key) < SHORT_KEY:
            log.warning(
                "The key of %r in API_KEYS has fewer than %d characters. Use a longer one.", name, SHORT_KEY
            )


def _print_error(error: StartError, exit_code: int) -> int:
    say(str(error), fatal=True)
    return exit_code
