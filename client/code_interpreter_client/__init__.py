"""Python client of a self-hosted code interpreter.

    from code_interpreter_client import Client

    with Client() as client, client.session() as session:
        session.run("import pandas as pd; sales = pd.Series([3, 5, 8])")
        print(session.run("int(sales.sum())").stdout)

`AsyncClient` has the same calls for asyncio. The docstring of `errors` shows all errors.
"""

from code_interpreter_client.async_client import AsyncClient, AsyncSession, AsyncStream
from code_interpreter_client.client import Client, Session, Stream
from code_interpreter_client.errors import (
    BadAnswer,
    CellNotFound,
    CodeInterpreterError,
    ConnectionFailed,
    ConnectionLost,
    ExecutionLost,
    FileDamaged,
    FileNotFound,
    InvalidRequest,
    NoInputRequest,
    NotFound,
    Refused,
    SessionBusy,
    SessionEnded,
    SessionNotFound,
    StorageFull,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from code_interpreter_client.http.retry import Retry
from code_interpreter_client.models.events import Cleared, Event, InputRequest, Printed, Shown
from code_interpreter_client.models.files import StoredFile, WorkspaceFile
from code_interpreter_client.models.health import Health
from code_interpreter_client.models.images import Image
from code_interpreter_client.models.outputs import Output
from code_interpreter_client.models.results import (
    CodeFailed,
    ExecutionError,
    Result,
    ResultFile,
    SkippedFile,
)
from code_interpreter_client.models.sessions import (
    Cell,
    CellPage,
    CommandResult,
    Completion,
    Inspection,
    SessionInfo,
    Started,
)
from code_interpreter_client.version import __version__

__all__ = [
    "AsyncClient",
    "AsyncSession",
    "AsyncStream",
    "BadAnswer",
    "Cell",
    "CellNotFound",
    "CellPage",
    "Cleared",
    "Client",
    "CodeFailed",
    "CodeInterpreterError",
    "CommandResult",
    "Completion",
    "ConnectionFailed",
    "ConnectionLost",
    "Event",
    "ExecutionError",
    "ExecutionLost",
    "FileDamaged",
    "FileNotFound",
    "Health",
    "Image",
    "InputRequest",
    "Inspection",
    "InvalidRequest",
    "NoInputRequest",
    "NotFound",
    "Output",
    "Printed",
    "Refused",
    "Result",
    "ResultFile",
    "Retry",
    "Session",
    "SessionBusy",
    "SessionEnded",
    "SessionInfo",
    "SessionNotFound",
    "Shown",
    "SkippedFile",
    "Started",
    "StorageFull",
    "StoredFile",
    "Stream",
    "TooLarge",
    "TooMany",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "WorkspaceFile",
    "__version__",
]
