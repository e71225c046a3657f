"""JSON bodies of the API's errors."""

from typing import Any

from pydantic import BaseModel, Field

from service.http.values import FILE_ID
from sessions.records import SessionEnd

_TIME = 1_767_225_600.25


class ErrorBody(BaseModel):
    """What every answer of 400 and above has."""

    detail: str | list[dict[str, Any]] = Field(
        description="What is wrong; for an invalid request, a list with `loc`, `msg` and `type`.",
        examples=[f"File with ID '{FILE_ID}' not found"],
    )
    code: str = Field(
        description="The kind of error, for programs; it does not change.",
        examples=["file_not_found"],
    )


class SessionEndedBody(ErrorBody):
    """Why a session is no more."""

    reason: SessionEnd = Field(
        description="`lost`: its container is gone, for whatever reason.", examples=["expired"]
    )
    ended_at: float = Field(description="When it ended.", examples=[_TIME + 900])
