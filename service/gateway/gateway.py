"""The sessions to which clients of the Jupyter gateway are connected."""

import asyncio

from service.auth.limits import RequestRate
from service.gateway.clients import Client
from service.gateway.memory import GatewayMemory
from service.gateway.session_channels import SessionChannels
from sessions.executions.limits import CellLimits
from sessions.manager.manager import SessionManager
from sessions.session.session import Session


class Gateway:
    """Connects clients with sessions. `close` disconnects all clients; the sessions live on."""

    def __init__(
        self, sessions: SessionManager, limits: CellLimits, rate: RequestRate, message_bytes: int
    ) -> None:
        """Make the gateway.

        Args:
            sessions: the sessions.
            limits: limits of the cells that clients run.
            rate: counts each cell as a request of the session's owner.
            message_bytes: size limit of a client's message.
        """
        self.decoding = asyncio.Lock()
        """Held while a large message is decoded, which takes many times its size in memory."""
        self._memory = GatewayMemory(message_bytes)
        self._limits = limits
        self._sessions = sessions
        self._rate = rate
        self._channels: dict[str, SessionChannels] = {}
        """By session id, from the first client's connection until the last client is forgotten."""

    def connect(self, session: Session, name: str) -> Client:
        """Return the client of that name, for a WebSocket that was opened. Raises `TooManyConnections`."""
        channels = self._channels.get(session.session_id)
        if channels is None:
            channels = self._channels[session.session_id] = SessionChannels(
                session,
                self._sessions,
                self._limits,
                self._rate,
                self._memory.for_kernel(session.record.owner),
                lambda: self._remove(session.session_id),
            )
        return channels.connect(name)

    async def restart(self, session: Session) -> None:
        """Restart the kernel of a session for one of its clients. Raises as `Session.restart`."""
        channels = self._channels.get(session.session_id)
        await (session if channels is None else channels).restart()

    def connections(self, session_id: str) -> int:
        """Return the number of WebSockets that are open to a session."""
        channels = self._channels.get(session_id)
        return 0 if channels is None else channels.connections

    def _remove(self, session_id: str) -> None:
        channels = self._channels.pop(session_id, None)
        if channels is not None:
            channels.close()

    def close(self) -> None:
        """Disconnect all clients."""
        for session_id in list(self._channels):
            self._remove(session_id)
