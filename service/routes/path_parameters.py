"""The parts of a path that name something."""

from typing import Annotated

from fastapi import Path

from service.schemas import FILE_ID
from service.session_schemas import CELL_ID, SESSION_ID

FileIdPath = Annotated[str, Path(description="Id of a stored file.", examples=[FILE_ID])]
SessionIdPath = Annotated[str, Path(description="Id of a session.", examples=[SESSION_ID])]
CellIdPath = Annotated[str, Path(description="Id of a cell.", examples=[CELL_ID])]
FilePath = Annotated[
    str, Path(description="Where the file is, relative to the working folder.", examples=["data/sales.csv"])
]
