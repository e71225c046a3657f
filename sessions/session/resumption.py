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
    running = await rows.running_cells(state.session_id)
    # The container keeps a note about its last cell, whose row the service may not have written.
    note = await state.sandbox.runner.last_note()
    if note:
        last = CellRecord(**json.loads(note))
        if await rows.get_cell(state.session_id, last.cell_id) is None:
            await rows.add_cell(last)
            running.append(last)
    known = await rows.summary(state.session_id)
    cells.count_from(known.last_number)
    used_at = max(state.record.last_used_at, known.last_finished_at or 0.0)
    state.record = replace(state.record, last_used_at=used_at)
    state.kernel.execution_count = known.execution_count
    state.sandbox.runner.reconnect()
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
