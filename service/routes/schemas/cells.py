"""JSON bodies of the cells of a session. Times are seconds since the epoch."""

from pydantic import BaseModel, Field

from service.http.values import CellId
from service.routes.schemas.execute import ExecuteResponse
from sessions.records import CellState, Removed

_TIME = 1_767_225_600.25


class CellInfo(BaseModel):
    """A cell of a session: its code, state and result."""

    cell_id: CellId
    number: int = Field(description="Number of the cell in the session, from 1.", examples=[1])
    code: str = Field(description="Code of the cell.", examples=["2 + 2"])
    state: CellState = Field(
        description="State of the cell. `lost`: the cell was started, but its result is unknown.",
        examples=["done"],
    )
    started_at: float = Field(description="When the cell was started.", examples=[_TIME])
    finished_at: float | None = Field(
        description="When the cell ended; null before that.", examples=[_TIME + 1]
    )
    result: ExecuteResponse | None = Field(
        description="Result of the cell; null while it is unknown, and after it was removed."
    )
    removed: Removed | None = Field(
        None,
        description="The part of the cell that was removed, because the history of the key was larger than "
        "`KEY_HISTORY_MB`: its `result`, or with `code` its code as well. Times, sizes and exit code are "
        "still at `/v1/executions/{cell_id}`.",
        examples=[None],
    )


class CellList(BaseModel):
    """A page of the cells of a session, in order."""

    cells: list[CellInfo] = Field(
        description="The cells of this page, sorted by number. Numbers may be missing: if the history of the "
        "key is larger than `KEY_HISTORY_MB` without any result and code, the oldest cells are removed."
    )
    next: str | None = Field(
        None, description="Value of `after` for the next page; null on the last page.", examples=[None]
    )
