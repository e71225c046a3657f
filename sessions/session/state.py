"""The state that the parts of one session share: its record, container, kernel and lock."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from sessions import clock
from sessions.containers.sandbox import Sandbox
from sessions.errors import SessionEnded, log_text
from sessions.kernels.errors import SupervisorFailed
from sessions.ports import Recorder
from sessions.records import ExecutionKind, SessionRecord
from sessions.session.kernel import SessionKernel
from sessions.session.lock import SessionLock
from sessions.session.services import SessionServices

log = logging.getLogger(__name__)


class SessionState:
    """The state of an open session, which its cells, messages and shell commands work on."""

    def __init__(
        self,
        record: SessionRecord,
        sandbox: Sandbox,
        services: SessionServices,
        on_lost: Callable[[], None],
    ) -> None:
        """Share the state of one session.

        Args:
            on_lost: called when the container is found to be gone. It must not wait for the running cell.
        """
        self.record = record
        self.sandbox = sandbox
        self.services = services
        self.kernel = SessionKernel(record.session_id, sandbox, services.containers)
        settings = services.settings
        self.lock = SessionLock(record.session_id, settings.queue_size, settings.queue_timeout_sec)
        self.closed: Exception | None = None
        """The error that waiting callers get, once the session has ended or the service is stopping."""
        self._on_lost = on_lost

    @property
    def session_id(self) -> str:
        return self.record.session_id

    @property
    def owner(self) -> str:
        return self.record.owner

    def used(self) -> None:
        """Note that the session was used now. Its row is written later, with the next result."""
        self.record = replace(self.record, last_used_at=clock.now())

    @contextmanager
    def recording(self, kind: ExecutionKind, code: str) -> Iterator[Recorder]:
        """Record an execution until its code runs, or an error in the block ends it.

        Raises:
            SessionEnded: the container failed because the session was ended meanwhile.
        """
        with self.services.recording.begin(kind, self.owner, code, self.session_id) as recorder:
            try:
                yield recorder
            except SupervisorFailed:
                if isinstance(self.closed, SessionEnded):
                    raise self.closed from None
                raise

    async def recover(self, failure: SupervisorFailed) -> SupervisorFailed:
        """Start a new kernel after a failure of the container, or end the session as lost.

        Returns the error for the caller.
        """
        if self.closed is not None:
            return failure
        log.warning("session %s: %s", self.session_id, log_text(failure))
        try:
            await self.kernel.start()
        except SupervisorFailed:
            self._on_lost()
            return failure
        return SupervisorFailed(
            failure.summary,
            failure.quoted,
            outcome="a new one is ready, without variables; files are kept",
        )
