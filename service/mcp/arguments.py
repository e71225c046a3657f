"""The arguments of the tools: their names, types and descriptions, from which the schemas are made."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool
from pydantic.json_schema import SkipJsonSchema

from kernel_image import contract
from service.http.values import ShellCommand, Source, Text


class Arguments(BaseModel):
    """The arguments of one tool; an unknown argument is an error."""

    model_config = ConfigDict(extra="forbid")


Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | SkipJsonSchema[None]


def _relative(path: str) -> str:
    """Return a path relative to the workspace. Models often give absolute paths, as code sees them."""
    return path.removeprefix(f"{contract.WORKSPACE}/")


Path = Annotated[
    Text,
    AfterValidator(_relative),
    Field(description="Relative to the workspace.", examples=["data.csv", "out/chart.png"]),
]


class RunPython(Arguments):
    """Arguments of run_python."""

    code: Source = Field(
        description="Python source. The value of the last line is shown, as in a notebook. Figures are shown "
        "by plt.show(), or at the end if they are still open. Top-level await, %magics and !commands work."
    )
    timeout_seconds: Seconds = Field(None, description="The code is interrupted after this time.")


class RunShell(Arguments):
    """Arguments of run_shell."""

    command: ShellCommand = Field(
        description="The command, which is run by `bash -c`.", examples=["ls -l && head -3 data.csv"]
    )
    timeout_seconds: Seconds = Field(None, description="The command is ended after this time.")


class ListFiles(Arguments):
    """Arguments of list_files: none."""


class ReadFile(Arguments):
    """Arguments of read_file."""

    path: Path


class WriteFile(Arguments):
    """Arguments of write_file: the path, and exactly one of the three contents."""

    path: Path
    text: Text | SkipJsonSchema[None] = Field(None, description="The content, if it is text.")
    base64: Text | SkipJsonSchema[None] = Field(
        None, description="The content, encoded in base64, if it is not text."
    )
    file_id: Text | SkipJsonSchema[None] = Field(
        None, description="The id of a file that was uploaded to the service. Its content is copied."
    )


class Reset(Arguments):
    """Arguments of reset."""

    delete_files: StrictBool = Field(False, description="Also delete all files in the workspace.")
