"""Resumes a session after a restart of the service: its kernel, and the cell that ran meanwhile."""

import json
from dataclasses import replace

from sessions import clock
from sessions.kernels.errors import SupervisorFailed
from sessions.records import CellRecord
from sessions.session.cells import SessionCells
from sessions.session.state import SessionState


async def resume(state: SessionState, cells: SessionCells) -> None:
    """Connect to the container of a session, and follow the cell that still runs or has ended unseen.

    Raises:
        SupervisorFailed: the container is gone.
    """
    rows = state.services.rows
    await state.sandbox.renew_lease(state.services.settings.lease_sec)
    known = await rows.cells(state.session_id)
    # The container keeps a note about its last cell, whose row the service may not have written.
    note = await state.sandbox.runner.last_note()
    if note:
        last = CellRecord(**json.loads(note))
        if last.cell_id not in {cell.cell_id for cell in known}:
            await rows.add_cell(last)
            known.append(last)
    cells.count_from(max((cell.number for cell in known), default=0))
    ended = [cell.finished_at for cell in known if cell.finished_at is not None]
    state.record = replace(state.record, last_used_at=max([state.record.last_used_at, *ended]))
    counts = [cell.result.get("execution_count") for cell in known if cell.result]
    state.kernel.execution_count = next((count for count in reversed(counts) if isinstance(count, int)), 0)
    state.sandbox.runner.reconnect()
    running = [cell for cell in known if cell.state == "running"]
    for cell in running[:-1]:
        await _lose(state, cell)
    if not running:
        await state.kernel.ensure_ready()
        return
    try:
        await cells.resume(running[-1])
    except SupervisorFailed:
        await _lose(state, running[-1])
        await state.kernel.ensure_ready()


async def _lose(state: SessionState, cell: CellRecord) -> None:
    """Record that the end of a cell is not known."""
    state.services.recording.lose(cell, state.owner)
    await state.services.rows.finish_cell(cell.cell_id, "lost", clock.now(), None)
