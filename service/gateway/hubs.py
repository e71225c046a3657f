"""The hubs of all sessions that somebody has a socket open to."""

from dataclasses import replace

from service.auth.limits import RequestRate
from service.gateway.client import Client
from service.gateway.hub import Hub
from sessions.executions.one_shot import OneShotExecutor
from sessions.manager import SessionManager
from sessions.session import CellLimits, Session


class Hubs:
    """Made when the first client comes, and gone with the last."""

    def __init__(self, executor: OneShotExecutor, sessions: SessionManager, rate: RequestRate) -> None:
        settings = executor.stores.settings
        budget = replace(
            executor.budget,
            cpu_sec=settings.jupyter_cpu_time_limit_sec,
            cpu_setting="JUPYTER_CPU_TIME_LIMIT_SEC",
        )
        self._limits = CellLimits(settings.jupyter_timeout_sec, budget)
        self._sessions = sessions
        self._rate = rate
        self._hubs: dict[str, Hub] = {}

    def attach(self, session: Session, key: str) -> tuple[Hub, Client]:
        """The hub of a session and its client of that name. Raises `TooManyConnections`."""
        hub = self._hubs.get(session.session_id)
        if hub is None:
            hub = self._hubs[session.session_id] = Hub(
                session, self._sessions, self._limits, self._rate, lambda: self._drop(session.session_id)
            )
        return hub, hub.attach(key)

    async def restart(self, session: Session) -> None:
        """Replace the kernel of a session for one of its clients. Raises as `Session.restart`."""
        hub = self._hubs.get(session.session_id)
        await (session if hub is None else hub).restart()

    def sockets(self, session_id: str) -> int:
        """How many sockets are open to a session."""
        hub = self._hubs.get(session_id)
        return 0 if hub is None else hub.sockets

    def _drop(self, session_id: str) -> None:
        hub = self._hubs.pop(session_id, None)
        if hub is not None:
            hub.close()

    def close(self) -> None:
        """Let go of all clients."""
        for session_id in list(self._hubs):
            self._drop(session_id)
