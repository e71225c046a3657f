"""The channels of one session's kernel, shared by all clients of the session.

All messages that the kernel publishes go to every client. Printed text does not come from the kernel but
from the supervisor, and is sent as `stream` messages of the request to which it belongs.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from service.auth.limits import RequestRate
from service.gateway.clients import Client, Clients
from service.gateway.frames import encode
from service.gateway.iopub import IOPub
from service.gateway.kernel_connection import KernelConnection
from service.gateway.memory import KernelMemory
from service.gateway.request_handler import RequestHandler
from service.gateway.running_requests import RunningRequests
from sessions import clock
from sessions.executions.limits import CellLimits
from sessions.manager.manager import SessionManager
from sessions.models import DEFAULT_TTL_SEC
from sessions.session.session import Session
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

TTL_SEC: Final = DEFAULT_TTL_SEC
"""A session lives so long after its last WebSocket has closed, and its clients are remembered so long."""
_CHECK_SEC: Final = 5.0


class SessionChannels:
    """Connects clients with a session, from the first `connect` until `close`."""

    def __init__(
        self,
        session: Session,
        sessions: SessionManager,
        limits: CellLimits,
        rate: RequestRate,
        memory: KernelMemory,
        on_empty: Callable[[], None],
    ) -> None:
        """`on_empty` is called when the last client is forgotten."""
        self._session = session
        self._sessions = sessions
        self._is_restarting = False
        """Whether a client is having the kernel restarted."""
        self._iopub = IOPub()
        self._requests = RunningRequests(self._iopub, limits.budget.display_bytes)
        self._connection = KernelConnection(session, self._iopub, self._requests)
        handler = RequestHandler(session, self._iopub, self._requests, self._connection, limits, rate)
        self._clients = Clients(handler, self._iopub, memory, on_empty)
        session.observe(self._on_new_kernel)
        self._tasks = BackgroundTasks()
        for work in (self._connection.run(), self._keep_alive(), self._wait_for_end()):
            self._tasks.start(work)

    @property
    def connections(self) -> int:
        """Number of open WebSockets."""
        return self._clients.connected

    def connect(self, name: str) -> Client:
        """Return the client of that name, for a WebSocket that was opened. Raises `TooManyConnections`."""
        client = self._clients.connect(name)
        if self._session.runs_in_kernel:
            status = self._iopub.message("status", {"execution_state": "busy"}, {})
            client.queue.put(encode("iopub", status))
        return client

    async def restart(self) -> None:
        """Restart the kernel for a client. Raises as `Session.restart`."""
        self._is_restarting = True
        try:
            await self._session.restart()
        finally:
            self._is_restarting = False

    def _on_new_kernel(self, asked: bool) -> None:
        """Connect to a kernel that has replaced the last one; `asked` is whether a caller wanted that."""
        self._iopub.start_kernel()
        self._connection.reconnect()
        if asked:
            self._clients.abort_cells()
        self._requests.kernel_replaced("starting" if self._is_restarting else "restarting")

    async def _keep_alive(self) -> None:
        """Keep the session alive while a WebSocket is open, and forget clients that do not come back."""
        while True:
            if self.connections:
                await self._extend_session()
            self._clients.forget_disconnected(TTL_SEC)
            await asyncio.sleep(_CHECK_SEC)

    async def _extend_session(self) -> None:
        """Let the session live for about `TTL_SEC` from now, unless it lives longer anyway."""
        self._session.used()
        if self._session.record.expires_at < clock.now() + TTL_SEC * 0.95:
            try:
                await self._sessions.extend(self._session, TTL_SEC)
            except Exception:
                log.exception("session %s could not be extended", self._session.session_id)

    async def _wait_for_end(self) -> None:
        """Publish the kernel's death when the session ends, and disconnect all clients."""
        await self._session.ended.wait()
        self._iopub.publish_status("dead", {})
        self._clients.forget_all()

    def close(self) -> None:
        """Disconnect the kernel and all clients."""
        self._session.stop_observing()
        self._tasks.cancel()
        self._clients.forget_all()
