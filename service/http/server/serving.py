"""The HTTP server: binds the port, shows the banner, and shuts down in order."""

import ctypes
import gc
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import StartError
from service.http.answers import ANSWERS
from service.http.peer import PeerAddress
from service.http.server.connection import connection_class
from service.http.server.ingress import Ingress
from service.http.server.websocket import patient_socket_for
from service.operations.banner import banner
from service.operations.errors import AddressUnavailable
from service.telemetry import logs

# Time for running requests to end when the server stops, in seconds.
_GRACE_SEC = 5
# Most clients keep an idle connection for a shorter time, so the client closes it, not the server.
_KEEP_ALIVE_SEC = 65
_FRAME_BYTES = 4 << 20
_MAX_CONNECTIONS = 1000
# An option of glibc's mallopt. Larger blocks of memory are returned to the system as soon as they are freed.
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK_BYTES = 1 << 18
# Maximum time that a thread, such as one that writes to the registry, blocks the event loop, in seconds.
_SWITCH_INTERVAL_SEC = 0.0005


def bind(host: str, port: int) -> socket.socket:
    """Bind the address, before anything else is started. Raises ``AddressUnavailable``."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise AddressUnavailable(host, port, error.strerror or str(error)) from error
    return sock


def serve(
    app: FastAPI,
    host: str,
    sock: socket.socket,
    client_timeout_sec: float = 30,
    frame_bytes: int = _FRAME_BYTES,
    *,
    max_connections: int = _MAX_CONNECTIONS,
    banner_of: Callable[[str, int], str] = banner,
) -> None:
    """Run a server on a bound socket until SIGTERM or SIGINT. uvicorn raises that signal again at the end.

    Calls ``sys.exit`` with 1 or 3 if the application cannot start.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL_SEC)
    with suppress(AttributeError):  # not glibc
        # Without a fixed threshold, glibc would keep the memory of large messages that are gone.
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = make_server(
        app, host, client_timeout_sec, frame_bytes, max_connections=max_connections, banner_of=banner_of
    )
    server.run(sockets=[sock])


def make_server(
    app: FastAPI,
    host: str,
    client_timeout_sec: float = 30,
    frame_bytes: int = _FRAME_BYTES,
    *,
    max_connections: int = _MAX_CONNECTIONS,
    banner_of: Callable[[str, int], str] = banner,
) -> uvicorn.Server:
    """Make a server that does not run yet.

    Args:
        app: the application.
        host: the address for the banner.
        client_timeout_sec: disconnect clients that are slow for these seconds; see ``Connection``.
        frame_bytes: maximum size of a message from a WebSocket client, in bytes.
        max_connections: most connections that are open at once, WebSockets included.
        banner_of: returns the banner for a host and a port.
    """
    config = _Config(
        Ingress(_PlainStartErrors(app), app),
        loop="uvloop",
        http=connection_class(client_timeout_sec, max_connections),
        ws=patient_socket_for(client_timeout_sec),
        ws_max_size=frame_bytes,
        # The server notices a client that lost its network within twice this time.
        ws_ping_interval=client_timeout_sec,
        ws_ping_timeout=client_timeout_sec,
        # Compression would take a quarter of a MiB of memory for each connection.
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        server_header=False,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_SEC,
        timeout_graceful_shutdown=_GRACE_SEC,
    )
    return _Server(config, host, banner_of)


class _Config(uvicorn.Config):
    """Stores the address of each connection, before uvicorn replaces it by what a proxy says."""

    def load(self) -> None:
        super().load()
        self.loaded_app = PeerAddress(self.loaded_app)


class _Server(uvicorn.Server):
    """Prints the banner once it accepts connections."""

    def __init__(self, config: uvicorn.Config, host: str, banner_of: Callable[[str, int], str]) -> None:
        super().__init__(config)
        self._host = host
        self._banner_of = banner_of

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets
        port = sockets[0].getsockname()[1]
        try:
            await super().startup(sockets)
            # uvloop does not report that listening failed, so listen again. A second call has no effect.
            sockets[0].listen(self.config.backlog)
        except OSError as error:
            # Another process began to listen on the address while this service was starting.
            reason = error.strerror or str(error)
            await self.lifespan.shutdown()
            logs.say(str(AddressUnavailable(self._host, port, reason)), fatal=True)
            sys.exit(1)
        if not self.should_exit:
            logs.say(self._banner_of(self._host, port))
            # The objects that exist now are kept forever, so the garbage collector need not examine them.
            gc.collect()
            gc.freeze()


class _PlainStartErrors:
    """ASGI middleware: replaces the traceback of a known error during the start by the error's message.

    Known errors are ``StartError`` and the errors in ``ANSWERS``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def say(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                error = sys.exception()
                if isinstance(error, (StartError, *ANSWERS)):
                    message["message"] = str(error)
            await send(message)

        await self._app(scope, receive, say if scope["type"] == "lifespan" else send)
