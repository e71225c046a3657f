"""What the tools take."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool
from pydantic.json_schema import SkipJsonSchema

from kernel_image import contract
from service.http.values import Text

COMMAND_SEC: Final = 30.0
"""How long a shell command may take that does not say."""


class Arguments(BaseModel):
    """What a tool takes; a name that it does not know is a mistake to be told."""

    model_config = ConfigDict(extra="forbid")


Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | SkipJsonSchema[None]


def _relative(path: str) -> str:
    """A path as code sees it, which is what models often give, is as good."""
    return path.removeprefix(f"{contract.WORKSPACE}/")


Path = Annotated[
    Text,
    AfterValidator(_relative),
    Field(description="Relative to the working folder.", examples=["data.csv", "out/chart.png"]),
]


class RunPython(Arguments):
    """Arguments of run_python."""

    code: Text = Field(
        description="Python source. The value of the last line is shown, as in a notebook; figures are shown "
        "by plt.show() or when left open; top-level await, %magics and !commands work."
    )
    timeout_seconds: Seconds = Field(None, description="The code is interrupted after this time.")


class RunShell(Arguments):
    """Arguments of run_shell."""

    command: Text = Field(description="What `bash -c` gets.", examples=["ls -l && head -3 data.csv"])
    timeout_seconds: Seconds = Field(COMMAND_SEC, description="The command is ended after this time.")


class ListFiles(Arguments):
    """Arguments of list_files."""


class ReadFile(Arguments):
    """Arguments of read_file."""

    path: Path


class WriteFile(Arguments):
    """Arguments of write_file: exactly one of the three contents."""

    path: Path
    text: Text | SkipJsonSchema[None] = Field(None, description="The content, if it is text.")
    base64: Text | SkipJsonSchema[None] = Field(None, description="The content in base64, if it is not text.")
    file_id: Text | SkipJsonSchema[None] = Field(
        None, description="The id of a file that was uploaded to the service: its content."
    )


class Reset(Arguments):
    """Arguments of reset."""

    delete_files: StrictBool = Field(False, description="Empty the working folder, too.")
