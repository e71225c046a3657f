"""The schemas of server-sent events. Their data is JSON in ASCII, on one line."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema

from service.routes.schemas.execute import ExecuteResult


class _AsText:
    """Annotation: in the JSON schema, the value is a string that contains JSON."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "contentMediaType": "application/json", "contentSchema": handler(core)}


class Printed(BaseModel):
    """A piece of text that the code printed."""

    stream: Literal["stdout", "stderr"] = Field(
        description="Stream to which the text was printed.", examples=["stdout"]
    )
    data: str = Field(description="The printed text.", examples=["Hello, World!\n"])


class Shown(BaseModel):
    """A rich output of notebook format 4, or an update of an earlier one."""

    output_type: Literal["display_data", "execute_result", "update_display_data"] = Field(
        description="Type of the output. `update_display_data` replaces outputs with the same `display_id`.",
        examples=["display_data"],
    )
    data: dict[str, Any] = Field(
        description="Representations of the output, by media type.", examples=[{"text/plain": "4"}]
    )
    metadata: dict[str, Any] = Field(description="Metadata of the output, by media type.", examples=[{}])
    execution_count: int | None = Field(
        None, description="Execution count of the kernel, as shown in a notebook.", examples=[1]
    )
    transient: dict[str, Any] | None = Field(
        None, description="The `display_id`, if the output has one.", examples=[{"display_id": "a1"}]
    )


class Cleared(BaseModel):
    """All that was shown so far is removed: text and rich outputs. `stdout` and `stderr` stay whole."""

    wait: bool = Field(description="Whether it stays until the next `output` or `display`.", examples=[True])


class Asked(BaseModel):
    """A request for a line of input. The code waits for it."""

    prompt: str = Field(description="Text to show to the user.", examples=["Your name? "])
    password: bool = Field(description="Whether to hide the input, as for a password.", examples=[False])


class Failed(BaseModel):
    """An error of the service after the stream had begun."""

    message: str = Field(description="Description of the error.", examples=["The kernel's container died"])


class OutputEvent(BaseModel):
    """The event of printed text."""

    event: Literal["output"] = Field(description="The kind of event.", examples=["output"])
    data: Annotated[Printed, _AsText()] = Field(description="The printed text and its stream.")


class DisplayEvent(BaseModel):
    """The event of a rich output."""

    event: Literal["display"] = Field(description="The kind of event.", examples=["display"])
    data: Annotated[Shown, _AsText()] = Field(description="The rich output.")


class ClearOutputEvent(BaseModel):
    """The event of `clear_output()`."""

    event: Literal["clear_output"] = Field(description="The kind of event.", examples=["clear_output"])
    data: Annotated[Cleared, _AsText()] = Field(description="When the outputs are removed.")


class InputRequestEvent(BaseModel):
    """The event of code that waits for a line of input."""

    event: Literal["input_request"] = Field(description="The kind of event.", examples=["input_request"])
    data: Annotated[Asked, _AsText()] = Field(description="The prompt, and whether to hide the input.")


class ResultEvent(BaseModel):
    """The last event of a stream: the execution has ended."""

    event: Literal["result"] = Field(description="The kind of event.", examples=["result"])
    data: Annotated[ExecuteResult, _AsText()] = Field(description="The result, without the printed text.")


class ErrorEvent(BaseModel):
    """The last event of a stream, in place of `result`: the service has failed."""

    event: Literal["error"] = Field(description="The kind of event.", examples=["error"])
    data: Annotated[Failed, _AsText()] = Field(description="The error.")


_schema = TypeAdapter(
    OutputEvent | DisplayEvent | ClearOutputEvent | InputRequestEvent | ResultEvent | ErrorEvent
).json_schema(ref_template="#/components/schemas/{model}")
COMPONENTS: dict[str, Any] = _schema.pop("$defs")
"""Schemas that `EVENT_SCHEMA` refers to. FastAPI collects only the models of JSON bodies."""
EVENT_SCHEMA: dict[str, Any] = _schema
"""The JSON schema of one event."""
