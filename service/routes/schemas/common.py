"""The wire: every JSON body that goes in or out. Times are seconds since the epoch."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    field_validator,
)

from kernel_image import contract
from sessions.containers.image_care import ImageStatus
from sessions.records import StoredFile

FILE_ID = "9b2f6c1e-3d55-4d0b-8a49-0c1f5b7a2e64"
EXECUTION_ID = "5f0c8a3e7d1b4c52a6e9d3f0b1c2d4e5"
_IMAGE_DIGEST = "9c1f6f2a0d3b4e58a7c6b5d4e3f2a190"
_SHA256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

MAX_INPUT_FILES = 1000


def _is_text(value: str) -> str:
    """JSON can spell half of a character, which no file and no terminal can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("Text cannot have lone surrogates") from None
    return value


Text = Annotated[StrictStr, AfterValidator(_is_text)]


def _whole(value: object) -> object:
    """JSON has one kind of number: 2.0 is an integer there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[StrictInt, BeforeValidator(_whole)]

FileId = Annotated[str, Field(description="Id of a stored file.", examples=[FILE_ID])]


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


# Executions: the request


class InputFile(BaseModel):
    """A stored file that the code finds in its working folder."""

    path: Text = Field(
        description="Where to put it, relative to the working folder; folders are made.",
        examples=["data/sales.csv"],
    )
    file_id: Text = Field(description="Id of a stored file.", examples=[FILE_ID])


class ExecuteRequest(BaseModel):
    """Python code to run once, in a kernel of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"code": "import pandas as pd\npd.DataFrame({'a': [1, 2]}).sum()"},
                {
                    "code": "print(open('notes.txt').read())\nname = input()\nname.upper()",
                    "stdin": "Ada\n",
                    "timeout_ms": 5000,
                    "files": [{"path": "notes.txt", "file_id": FILE_ID}],
                },
            ]
        }
    )

    code: Text = Field(
        description="Python source; top-level `await`, magics and `!commands` work.",
        examples=["print('Hello, World!')\n2 + 2"],
    )
    stdin: Text | None = Field(
        None,
        description="What the code reads from standard input, then end of file.",
        examples=["Ada\n"],
    )
    timeout_ms: Integer = Field(
        2000,
        ge=1,
        description="Longest run, in milliseconds; at most `MAX_EXEC_TIMEOUT_MS`.",
        examples=[2000],
    )
    last_line_interactive: StrictBool = Field(
        True,
        description="Show the value of the last line, as a notebook does, if it is an expression.",
        examples=[True],
    )
    files: list[InputFile] = Field(
        default_factory=list,
        max_length=MAX_INPUT_FILES,
        description="Stored files to put into the working folder first.",
        examples=[[{"path": "data/sales.csv", "file_id": FILE_ID}]],
    )

    @field_validator("code")
    @classmethod
    def _has_no_nul(cls, code: str) -> str:
        if "\0" in code:
            raise ValueError("Python source cannot have NUL characters")
        return code


# Executions: the response


class WorkspaceFile(BaseModel):
    """A file that the code made or changed, stored."""

    path: str = Field(description="Where it was, relative to the working folder.", examples=["out/chart.png"])
    kind: Literal["file"] = Field("file", description="Always `file`.", examples=["file"])
    file_id: FileId
    size_bytes: int = Field(description="Its size, in bytes.", examples=[18_204])


class SkippedFile(BaseModel):
    """A file that the code made or changed, but that was not stored."""

    path: str = Field(description="Where it was, relative to the working folder.", examples=["big.bin"])
    size_bytes: int = Field(description="Its size, in bytes.", examples=[734_003_200])
    reason: str = Field(description="Why it was not stored.", examples=["File size exceeds maximum of 10 MB"])


class ExecutionError(BaseModel):
    """Why the code did not come to its end."""

    name: str = Field(
        description="The exception's class, or `TimeoutExceeded`, `MemoryLimitExceeded`, "
        "`CpuTimeLimitExceeded` or `KernelDied`.",
        examples=["ZeroDivisionError"],
    )
    value: str = Field(description="The exception's text.", examples=["division by zero"])
    traceback: list[str] = Field(
        description="The traceback, without colour codes.",
        examples=[["Traceback (most recent call last)", "ZeroDivisionError: division by zero"]],
    )


class ExecuteResult(BaseModel):
    """How an execution ended: all there is to know but the two streams."""

    exit_code: int | None = Field(
        description="As a shell reports it: 0, 1 after an exception, n after `sys.exit(n)`, "
        "128 + n after signal n; null after a timeout.",
        examples=[0],
    )
    timed_out: bool = Field(description="Whether `timeout_ms` ended it.", examples=[False])
    duration_ms: int = Field(description="How long it took, in milliseconds.", examples=[12])
    files: list[WorkspaceFile] = Field(
        description="Files that were made or changed.",
        examples=[[{"path": "out/chart.png", "kind": "file", "file_id": FILE_ID, "size_bytes": 18_204}]],
    )
    outputs: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Rich outputs: `display_data` and `execute_result` of notebook format 4. An "
        "image also has a `file_id` in `metadata`, under its media type.",
        examples=[
            [
                {
                    "output_type": "execute_result",
                    "execution_count": 1,
                    "data": {"text/plain": "4"},
                    "metadata": {},
                }
            ]
        ],
    )
    error: ExecutionError | None = Field(
        None, description="Why it did not come to its end; null if it did.", examples=[None]
    )
    state: Literal["kept", "restarted", "lost"] = Field(
        "lost",
        description="What became of the variables; `lost` when the kernel was for this execution only.",
        examples=["lost"],
    )
    state_reason: str = Field(
        "",
        description="Why `state` is what it is.",
        examples=["a stateless execution has a kernel of its own"],
    )
    execution_count: int | None = Field(
        None, description="The number in a notebook's brackets; null if it did not get one.", examples=[1]
    )
    cell_id: str | None = Field(
        None, description="Id of the cell in its session; null without a session.", examples=[None]
    )
    execution_id: str = Field(description="Id of this execution.", examples=[EXECUTION_ID])
    truncated: list[Literal["stdout", "stderr", "outputs"]] = Field(
        default_factory=list,
        description="What was cut because it was over its limit.",
        examples=[[]],
    )
    skipped_files: list[SkippedFile] = Field(
        default_factory=list,
        description="Files that were made or changed but not stored, and why.",
        examples=[[]],
    )


class PrintedText(BaseModel):
    """What an execution printed."""

    stdout: str = Field(
        description="Standard output, with the value of the last line.",
        examples=["Hello, World!\n4\n"],
    )
    stderr: str = Field(description="Standard error, with the traceback.", examples=[""])


class ExecuteResponse(ExecuteResult, PrintedText):
    """What an execution printed, and how it ended."""


# Files


class StoredFileInfo(BaseModel):
    """A stored file."""

    file_id: FileId
    filename: str = Field(description="Its name, as the client gave it.", examples=["sales.csv"])
    size_bytes: int = Field(description="Its size, in bytes.", examples=[18_204])
    upload_time: float = Field(description="When it was stored.", examples=[1_767_225_600.25])
    sha256: str = Field(description="SHA-256 of its bytes, hexadecimal.", examples=[_SHA256])
    media_type: str = Field(description="As the client said, or told from the name.", examples=["text/csv"])
    expires_at: float | None = Field(
        description="When it will be deleted; null: never.", examples=[1_767_229_200.25]
    )

    @classmethod
    def of(cls, stored: StoredFile) -> Self:
        """The wire form of a stored file."""
        return cls(
            file_id=stored.file_id,
            filename=stored.filename,
            size_bytes=stored.size_bytes,
            upload_time=stored.created_at,
            sha256=stored.sha256,
            media_type=stored.media_type,
            expires_at=stored.expires_at,
        )


class FileList(BaseModel):
    """Stored files, oldest first."""

    files: list[StoredFileInfo] = Field(
        description="The files of this page.",
        examples=[
            [
                {
                    "file_id": FILE_ID,
                    "filename": "sales.csv",
                    "size_bytes": 18_204,
                    "upload_time": 1_767_225_600.25,
                    "sha256": _SHA256,
                    "media_type": "text/csv",
                    "expires_at": 1_767_229_200.25,
                }
            ]
        ],
    )
    next: str | None = Field(
        description="Give it as `after` for the next page; null: this is the last.",
        examples=[None],
    )


# Health


class Health(BaseModel):
    """Whether the service works; the status code is 200 either way."""

    status: Literal["ok", "error"] = Field(description="`error`: code cannot be run now.", examples=["ok"])
    message: str | None = Field(description="What is wrong, if anything.", examples=[None])
    version: str = Field(description="Version of the service.", examples=["0.5.0"])


class PoolCounts(BaseModel):
    """The kernels there are, by what they do."""

    model_config = ConfigDict(from_attributes=True)

    ready: int = Field(description="Waiting for work.", examples=[2])
    starting: int = Field(description="Being made.", examples=[0])
    busy: int = Field(description="Running code.", examples=[1])
    waiting: int = Field(description="Callers that wait for one.", examples=[0])
    target: int = Field(description="How many are kept ready.", examples=[2])


class SelfTestCheck(BaseModel):
    """One wall around the user's code, as the service found it when it started."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(description="Which wall.", examples=["capabilities"])
    ok: bool = Field(description="Whether it holds; unless all do, nothing is served.", examples=[True])
    detail: str = Field(description="What was seen of it.", examples=["every set is empty"])


class KernelImage(BaseModel):
    """What kernels are launched from."""

    name: str = Field(
        description="`PYTHON_EXECUTOR_DOCKER_IMAGE`.", examples=["code-interpreter-kernel:latest"]
    )
    id: str = Field(description="The engine's id of it.", examples=[f"sha256:{_SHA256}"])
    version: str | None = Field(description="Version it was built for; null: unknown.", examples=["0.5.0"])
    digest: str | None = Field(
        description="Digest of the `kernel_image/` it was built from; null: unknown.",
        examples=[_IMAGE_DIGEST],
    )
    warnings: list[str] = Field(
        description="How it differs from what this service was made with, and what has become of its name.",
        examples=[[]],
    )

    @classmethod
    def of(cls, status: ImageStatus) -> Self:
        """The wire form of what the pool says."""
        labels = status.image.labels or {}
        return cls(
            name=status.name,
            id=status.image.image_id,
            version=labels.get(contract.VERSION_LABEL),
            digest=labels.get(contract.DIGEST_LABEL),
            warnings=list(status.warnings),
        )


class Readiness(BaseModel):
    """That executions are served."""

    status: Literal["ready"] = Field("ready", description="Always `ready`.", examples=["ready"])
    instance_id: str = Field(
        description="What this service's containers are labelled with.", examples=[EXECUTION_ID]
    )
    pool: PoolCounts = Field(
        description="The kernels there are.",
        examples=[{"ready": 2, "starting": 0, "busy": 1, "waiting": 0, "target": 2}],
    )
    image: KernelImage = Field(
        description="The image in use, and what is odd about it.",
        examples=[
            {
                "name": "code-interpreter-kernel:latest",
                "id": f"sha256:{_SHA256}",
                "version": "0.5.0",
                "digest": _IMAGE_DIGEST,
                "warnings": [],
            }
        ],
    )
    self_test: list[SelfTestCheck] = Field(
        description="What keeps the user's code in, as tried from inside a kernel at the start.",
        examples=[[{"name": "capabilities", "ok": True, "detail": "every set is empty"}]],
    )


class NotReadyBody(ErrorBody):
    """Why executions are not served yet."""

    instance_id: str = Field(
        description="What this service's containers are labelled with.", examples=[EXECUTION_ID]
    )
    pool: PoolCounts = Field(description="The kernels there are.")
