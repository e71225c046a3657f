"""The wire of a stream: its server-sent events. What they carry is JSON, in ASCII, on one line."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema

from service.routes.schemas.execute import ExecuteResult


class _AsText:
    """Says in a schema that a value stands there as the text of its JSON."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "contentMediaType": "application/json", "contentSchema": handler(core)}


class Printed(BaseModel):
    """Text as it is printed."""

    stream: Literal["stdout", "stderr"] = Field(description="Where it was printed.", examples=["stdout"])
    data: str = Field(description="The text.", examples=["Hello, World!\n"])


class Shown(BaseModel):
    """A rich output of notebook format 4, or one in place of an earlier one."""

    output_type: Literal["display_data", "execute_result", "update_display_data"] = Field(
        description="`update_display_data` replaces what has the same `display_id`.",
        examples=["display_data"],
    )
    data: dict[str, Any] = Field(description="By media type.", examples=[{"text/plain": "4"}])
    metadata: dict[str, Any] = Field(description="By media type.", examples=[{}])
    execution_count: int | None = Field(None, description="As in a notebook's brackets.", examples=[1])
    transient: dict[str, Any] | None = Field(
        None, description="Its `display_id`, if it has one.", examples=[{"display_id": "a1"}]
    )


class Asked(BaseModel):
    """The code asks, and waits."""

    prompt: str = Field(description="What to show.", examples=["Your name? "])
    password: bool = Field(description="Whether the answer should not be shown.", examples=[False])


class Failed(BaseModel):
    """The service failed after the stream had begun."""

    message: str = Field(description="What went wrong.", examples=["The kernel's container died"])


class OutputEvent(BaseModel):
    """Text was printed."""

    event: Literal["output"] = Field(description="The kind of event.", examples=["output"])
    data: Annotated[Printed, _AsText()] = Field(description="What was printed.")


class DisplayEvent(BaseModel):
    """Something was shown."""

    event: Literal["display"] = Field(description="The kind of event.", examples=["display"])
    data: Annotated[Shown, _AsText()] = Field(description="What was shown.")


class InputRequestEvent(BaseModel):
    """The code asks for a line of input."""

    event: Literal["input_request"] = Field(description="The kind of event.", examples=["input_request"])
    data: Annotated[Asked, _AsText()] = Field(description="What the code asks for.")


class ResultEvent(BaseModel):
    """The execution has ended: the last event."""

    event: Literal["result"] = Field(description="The kind of event.", examples=["result"])
    data: Annotated[ExecuteResult, _AsText()] = Field(description="How the execution ended.")


class ErrorEvent(BaseModel):
    """The service has failed: the last event, in place of `result`."""

    event: Literal["error"] = Field(description="The kind of event.", examples=["error"])
    data: Annotated[Failed, _AsText()] = Field(description="What failed.")


_schema = TypeAdapter(OutputEvent | DisplayEvent | InputRequestEvent | ResultEvent | ErrorEvent).json_schema(
    ref_template="#/components/schemas/{model}"
)
COMPONENTS: dict[str, Any] = _schema.pop("$defs")
"""What `EVENT_SCHEMA` refers to. FastAPI finds models of JSON bodies only."""
EVENT_SCHEMA: dict[str, Any] = _schema
"""The JSON schema of an event."""
