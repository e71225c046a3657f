"""JSON bodies of sessions. Times are seconds since the epoch."""

from typing import Literal, Self

from pydantic import BaseModel, Field

from service.http.values import FILE_ID, Integer, SessionId
from service.routes.schemas.execute import MAX_INPUT_FILES, InputFile
from sessions.models import DEFAULT_TTL_SEC, MAX_TTL_SEC
from sessions.records import SessionRecord

_TIME = 1_767_225_600.25


class CreateSessionRequest(BaseModel):
    """The lifetime and the input files of a new session."""

    ttl_seconds: Integer = Field(
        DEFAULT_TTL_SEC,
        ge=1,
        le=MAX_TTL_SEC,
        description="Lifetime of the session, in seconds.",
        examples=[900],
    )
    files: list[InputFile] = Field(
        default_factory=list,
        max_length=MAX_INPUT_FILES,
        description="Stored files to copy into the workspace.",
        examples=[[{"path": "data/sales.csv", "file_id": FILE_ID}]],
    )


class ExtendSessionRequest(BaseModel):
    """The remaining lifetime of a session."""

    ttl_seconds: Integer = Field(
        ge=1, le=MAX_TTL_SEC, description="Seconds from now until the session expires.", examples=[900]
    )


class SessionInfo(BaseModel):
    """An open session."""

    session_id: SessionId
    created_at: float = Field(description="When the session was created.", examples=[_TIME])
    expires_at: float = Field(
        description="When the session expires, even if it is in use.", examples=[_TIME + 900]
    )
    idle_expires_at: float | None = Field(
        description="When the session ends if it is not used; null: there is no such limit.", examples=[None]
    )
    last_used_at: float = Field(description="When the session was last used.", examples=[_TIME + 60])
    state: Literal["ready", "busy"] = Field(description="`busy`: code is running.", examples=["ready"])
    execution_count: int = Field(
        description="Execution count of the kernel, as shown in a notebook. A restart sets it to 0.",
        examples=[3],
    )

    @classmethod
    def of(cls, session: SessionRecord, *, idle_sec: float, busy: bool, execution_count: int) -> Self:
        """Return the wire form of a session; an ``idle_sec`` of 0 means no limit."""
        return cls(
            session_id=session.session_id,
            created_at=session.created_at,
            expires_at=session.expires_at,
            idle_expires_at=session.last_used_at + idle_sec if idle_sec else None,
            last_used_at=session.last_used_at,
            state="busy" if busy else "ready",
            execution_count=execution_count,
        )


class SessionList(BaseModel):
    """The open sessions, oldest first."""

    sessions: list[SessionInfo] = Field(description="The open sessions.")
