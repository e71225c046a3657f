"""JSON bodies of the API's errors."""

from typing import Any

from pydantic import BaseModel, Field

from service.http.values import FILE_ID
from sessions.records import SessionEnd

_TIME = 1_767_225_600.25


class ErrorBody(BaseModel):
    """The body of every response with a status of 400 or above."""

    detail: str | list[dict[str, Any]] = Field(
        description="Description of the error. For an invalid request, a list with `loc`, `msg` and `type`.",
        examples=[f"File with ID '{FILE_ID}' not found"],
    )
    code: str = Field(
        description="Name of the error, for programs. It does not change between versions.",
        examples=["file_not_found"],
    )


class SessionEndedBody(ErrorBody):
    """The body of the error that reports an ended session."""

    reason: SessionEnd = Field(
        description="Why the session ended. `lost`: its container no longer exists.", examples=["expired"]
    )
    ended_at: float = Field(description="When the session ended.", examples=[_TIME + 900])
