"""Types of the path parameters of routes, with their descriptions."""

from typing import Annotated

from fastapi import Path

from service.http.values import CELL_ID, EXECUTION_ID, FILE_ID, SESSION_ID

FileIdPath = Annotated[str, Path(description="Id of a stored file.", examples=[FILE_ID])]
SessionIdPath = Annotated[str, Path(description="Id of a session.", examples=[SESSION_ID])]
KernelIdPath = Annotated[
    str, Path(description="Id of a session, which is also its kernel id in Jupyter.", examples=[SESSION_ID])
]
KernelSpecPath = Annotated[str, Path(description="Name of a kernelspec.", examples=["python3"])]
CellIdPath = Annotated[str, Path(description="Id of a cell.", examples=[CELL_ID])]
ExecutionIdPath = Annotated[str, Path(description="Id of an execution.", examples=[EXECUTION_ID])]
FilePath = Annotated[str, Path(description="Path of the file in the workspace.", examples=["data/sales.csv"])]
