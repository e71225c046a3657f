"""The clients of one session: those that are connected, and those that may connect again."""

import time
from collections.abc import Callable
from typing import Final

from service.gateway.client import Client
from service.gateway.errors import TooManyConnections
from service.gateway.iopub import IOPub
from service.gateway.request_handler import RequestHandler
from service.gateway.send_queue import SendQueue

_MAX_CONNECTED: Final = 8
_MAX_DISCONNECTED: Final = 4


class Clients:
    """The clients by name, at most `_MAX_CONNECTED` connected ones and `_MAX_DISCONNECTED` others."""

    def __init__(self, handler: RequestHandler, iopub: IOPub, on_empty: Callable[[], None]) -> None:
        """`on_empty` is called when the last client is forgotten."""
        self._handler = handler
        self._iopub = iopub
        self._on_empty = on_empty
        self._clients: dict[str, Client] = {}

    @property
    def connected(self) -> int:
        """Number of open WebSockets."""
        return sum(client.is_connected for client in self._clients.values())

    def connect(self, name: str) -> Client:
        """Return the client of that name, which may be one that connects again.

        Raises:
            TooManyConnections: `_MAX_CONNECTED` other clients are connected.
        """
        client = self._clients.get(name)
        if (client is None or not client.is_connected) and self.connected >= _MAX_CONNECTED:
            raise TooManyConnections(_MAX_CONNECTED)
        if client is None:
            queue = SendQueue(self._iopub.stream_message)
            self._iopub.subscribe(queue)
            client = self._clients[name] = Client(self._handler, queue)
        client.connect()
        for old_name in self._disconnected()[_MAX_DISCONNECTED:]:
            self._forget(old_name)
        return client

    def abort_cells(self) -> None:
        """Reply to the waiting cells of all clients that they do not run."""
        for client in self._clients.values():
            client.abort_cells()

    def forget_disconnected(self, seconds: float) -> None:
        """Forget the clients that have been disconnected for more than so many seconds."""
        latest = time.monotonic() - seconds
        for name in self._disconnected():
            if self._clients[name].disconnected_at < latest:
                self._forget(name)

    def forget_all(self) -> None:
        """Forget all clients; each still receives the messages that are in its queue."""
        for name in list(self._clients):
            self._forget(name)

    def _disconnected(self) -> list[str]:
        """Return the names of the clients that are not connected, the last to disconnect first."""
        names = [name for name, client in self._clients.items() if not client.is_connected]
        return sorted(names, key=lambda name: -self._clients[name].disconnected_at)

    def _forget(self, name: str) -> None:
        client = self._clients.pop(name)
        self._iopub.unsubscribe(client.queue)
        client.close()
        if not self._clients:
            self._on_empty()
