"""All executions: the recorders of those that run, and the registry's rows of those that have ended."""

import logging
import uuid

from service.database.registries.cursor import make_cursor, read_cursor
from service.database.registries.execution_registry import ExecutionRegistry
from service.database.registries.records import ExecutionPage
from service.telemetry.metrics import Metrics
from service.telemetry.recorder import ExecutionRecorder, Refusal
from service.telemetry.request_context import current
from service.telemetry.traces import Traces
from sessions import clock
from sessions.errors import CallFailed, ExecutionNotFound
from sessions.kernels.errors import SupervisorFailed
from sessions.records import CellRecord, ExecutionKind, ExecutionRecord, FileOrigin, SessionEnd
from sessions.tasks import BackgroundTasks
from sessions.timeline import Timeline

log = logging.getLogger(__name__)


class ExecutionLog:
    """Records executions and sessions; `sessions.ports.Recording`. Close it when no code runs any more."""

    def __init__(
        self, registry: ExecutionRegistry, metrics: Metrics, traces: Traces, *, keeps_code: bool
    ) -> None:
        self.metrics = metrics
        self.traces = traces
        self.keeps_code = keeps_code
        self._registry = registry
        self._recorders: dict[str, ExecutionRecorder] = {}
        """Executions that run, and those that have ended and have no row yet."""
        self._writing = BackgroundTasks()

    def begin(
        self, kind: ExecutionKind, owner: str, code: str, session_id: str | None = None
    ) -> ExecutionRecorder:
        """Return the recorder of a new execution, for a `with` block that ends when the code runs."""
        return self._add(
            ExecutionRecorder(self, uuid.uuid4().hex, kind, owner, code, session_id, clock.now())
        )

    def resume(
        self, execution_id: str, owner: str, code: str, session_id: str, began: float
    ) -> ExecutionRecorder:
        """Return a recorder for a cell that was begun before the service restarted, and still runs."""
        recorder = ExecutionRecorder(self, execution_id, "session", owner, code, session_id, began)
        recorder.began_at(began)
        return self._add(recorder)

    def lose(self, cell: CellRecord, owner: str) -> None:
        """Record that the end of a cell, begun before the service restarted, cannot be known."""
        recorder = self.resume(cell.cell_id, owner, cell.code, cell.session_id, cell.started_at)
        recorder.failed(SupervisorFailed("what became of it is not known"))

    def session_opened(self, timeline: Timeline) -> None:
        """Record a new session, and how long its caller waited for a container."""
        self.metrics.waited("open", timeline)
        self.traces.waited(current(), timeline)
        self.metrics.session_opened()

    def session_ended(self, reason: SessionEnd) -> None:
        """Record the end of a session."""
        self.metrics.session_ended(reason)

    async def get(self, execution_id: str, owner: str) -> ExecutionRecord:
        """Return the owner's execution of this id. Raises `ExecutionNotFound`."""
        recorder = self._recorders.get(execution_id)
        if recorder is not None:
            found = recorder.record() if recorder.owner == owner else None
        else:
            found = await self._registry.get(execution_id, owner)
        if found is None:
            raise ExecutionNotFound(execution_id)
        return found

    async def page(self, owner: str, limit: int, after: str | None) -> ExecutionPage:
        """Return a page of the owner's executions, newest first. Raises `InvalidCursor`."""
        # Recorders first: an execution whose row is written meanwhile is then in at least one of the lists.
        running = [recorder.record() for recorder in self._recorders.values() if recorder.owner == owner]
        if after is not None:
            created_at, identifier = read_cursor(after)
            running = [record for record in running if _position(record) < (created_at, identifier.hex)]
        written, has_more = await self._registry.page(owner, limit, after)
        if has_more:
            running = [record for record in running if _position(record) >= _position(written[-1])]
        found = {record.execution_id: record for record in (*running, *written)}
        newest = sorted(found.values(), key=_position, reverse=True)
        page = tuple(newest[:limit])
        has_more = has_more or len(newest) > limit
        return ExecutionPage(
            page, make_cursor(page[-1].created_at, page[-1].execution_id) if has_more else None
        )

    async def close(self) -> None:
        """Return when every row is written."""
        await self._writing.wait()

    # --- for recorders ----------------------------------------------------------------------------

    def refused(self, recorder: ExecutionRecorder, kind: ExecutionKind, outcome: Refusal) -> None:
        """Count an execution whose code did not begin. It gets no row."""
        self.forget(recorder.execution_id)
        if recorder.context is not None:
            recorder.context.execution_id = None
        self.metrics.refused(kind, outcome)

    def finished(self, recorder: ExecutionRecorder, record: ExecutionRecord) -> None:
        """Count and trace an execution that has ended. Its row is not written yet."""
        self.metrics.executed(record, recorder.timeline)
        self.traces.executed(recorder.context, record, recorder.timeline)

    def file_stored(self, origin: FileOrigin, size_bytes: int) -> None:
        """Count a file that an execution stored."""
        self.metrics.file_stored(origin, size_bytes)

    def forget(self, execution_id: str) -> None:
        """Drop a recorder whose row is written, or that gets none."""
        self._recorders.pop(execution_id, None)

    def write_soon(self, record: ExecutionRecord) -> None:
        """Write a row in the background, so that the response does not wait for it."""
        self._writing.start(self._write(record))

    def _add(self, recorder: ExecutionRecorder) -> ExecutionRecorder:
        self._recorders[recorder.execution_id] = recorder
        return recorder

    async def _write(self, record: ExecutionRecord) -> None:
        try:
            await self._registry.add(record)
        except CallFailed as error:
            log.error("execution %s is not in the registry: %s", record.execution_id, error)
        finally:
            self.forget(record.execution_id)


def _position(record: ExecutionRecord) -> tuple[float, str]:
    return record.created_at, record.execution_id
