"""JSON bodies of completion and inspection in the kernel of a session."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.http.values import Integer, Text


class CompleteRequest(BaseModel):
    """Python code and the position of the cursor in it, for completion.

    Positions count Unicode characters, not bytes or UTF-16 units.
    """

    code: Text = Field(description="Python source, which may be incomplete.", examples=["import os\nos.pa"])
    cursor_pos: Integer | None = Field(
        None,
        ge=0,
        description="Number of characters before the cursor; null: the cursor is at the end.",
        examples=[15],
    )

    @model_validator(mode="after")
    def _cursor_is_inside(self) -> Self:
        if self.cursor_pos is not None and self.cursor_pos > len(self.code):
            raise ValueError("cursor_pos is behind the end of the code")
        return self

    @property
    def cursor(self) -> int:
        """The number of characters before the cursor."""
        return len(self.code) if self.cursor_pos is None else self.cursor_pos


class CompleteResponse(BaseModel):
    """Completions at the cursor. They are also empty if the kernel did not respond in time."""

    model_config = ConfigDict(from_attributes=True)

    matches: list[str] = Field(
        description="Completions. Each replaces the characters from `cursor_start` to `cursor_end`.",
        examples=[["pardir", "path", "pathconf"]],
    )
    cursor_start: int = Field(description="Number of characters before the replaced text.", examples=[13])
    cursor_end: int = Field(
        description="Number of characters up to the end of the replaced text.", examples=[15]
    )


class InspectRequest(CompleteRequest):
    """Python code whose cursor is in or after the name to inspect."""

    detail_level: Literal[0, 1] = Field(
        0, description="1: include the source code, as `name??` does.", examples=[0]
    )


class InspectResponse(BaseModel):
    """A description of the name at the cursor."""

    found: bool = Field(description="Whether the kernel knows the name.", examples=[True])
    data: dict[str, str] = Field(
        description="Description of the name by media type, at least `text/plain`; empty if it is unknown.",
        examples=[{"text/plain": "Signature: len(obj, /)\nDocstring: Return the number of items."}],
    )
