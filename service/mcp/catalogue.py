"""The tools as a model sees them: names, descriptions, arguments and annotations."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mcp_types as types

from service.mcp import arguments, content, tools
from service.mcp.arguments import Arguments
from service.mcp.tools import Call, Result
from service.settings import Settings
from sessions.session.shell_command import DEFAULT_COMMAND_MS

_RUN_PYTHON: Final = """\
Run Python code in this conversation's own IPython kernel. The result has the printed output, the value of \
the last line, images, tracebacks, and links to files that the code created or changed.
State is kept: variables, imports and files of earlier calls are still there. Take small steps and do not \
repeat earlier code. The workspace is the current directory. Open files that the user or write_file put \
there by their plain names. Files that the code saves there are returned as links.
Installed: numpy, pandas, scipy, sympy, statsmodels, scikit-learn, xgboost, networkx, matplotlib, seaborn, \
scikit-image, OpenCV, Pillow, openpyxl, XlsxWriter, python-docx, python-pptx, pdfplumber, pypdf, \
reportlab, lxml, BeautifulSoup. There is no network: nothing can be downloaded or installed.
Limits of a call: {max_sec} s, {cpu_sec} s of CPU time, {memory_mb} MiB of memory. All files together have \
at most {disk_mb} MiB. Output over {max_text} characters is cut in the middle. input() reads end of file."""

_RUN_SHELL: Final = """\
Run a bash command in the workspace of run_python. The result has the output and the exit code. Files \
are shared with Python. Each command runs in a new shell: variables, directory changes and the environment \
of earlier commands are gone. There is no network. To run Python, use run_python, which keeps its state."""

_LIST_FILES: Final = "List all files in the workspace and its subfolders, with their sizes."

_READ_FILE: Final = """\
Read a file in the workspace. Text is returned as text, cut in the middle over {max_text} characters, \
and an image as an image. For any other file the result is a link, which the user can download. Open such a \
file with Python to see its content."""

_WRITE_FILE: Final = """\
Write a file into the workspace, and replace a file of that name. Missing folders are created. Give \
the content as text, as base64, or as the file_id of a file that was uploaded to the service. A file has at \
most {file_mb} MiB."""

_RESET: Final = """\
Start a new kernel, so that all variables are gone. This also helps if code hangs. Files are kept, unless \
delete_files is true."""


@dataclass(frozen=True)
class Tool:
    """A tool: ``run`` is called with the arguments, validated by ``arguments``."""

    name: str
    title: str
    arguments: type[Arguments]
    run: Callable[[Call, Any], Awaitable[Result]]
    description: str
    annotations: types.ToolAnnotations
    output_schema: dict[str, Any] | None = None

    def definition(self, settings: Settings) -> types.Tool:
        """Return the tool as clients list it, with the limits of this service."""
        schema = _plain(self.arguments.model_json_schema())
        longest_sec = settings.execution.session_exec_timeout_ms / 1000
        if "timeout_seconds" in schema["properties"]:
            is_command = self.arguments is arguments.RunShell
            default_sec = min(DEFAULT_COMMAND_MS / 1000, longest_sec) if is_command else longest_sec
            schema["properties"]["timeout_seconds"] |= {"maximum": longest_sec, "default": default_sec}
        return types.Tool(
            name=self.name,
            title=self.title,
            description=self.description.format(
                cpu_sec=settings.execution.session_cpu_time_limit_sec,
                memory_mb=settings.execution.session_memory_limit_mb,
                max_sec=f"{longest_sec:g}",
                file_mb=settings.storage.max_file_size_mb,
                disk_mb=settings.containers.workspace_size_mb,
                max_text=content.MAX_TEXT_CHARACTERS,
            ),
            input_schema=schema,
            output_schema=self.output_schema,
            annotations=self.annotations,
        )


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without titles and without defaults of null, which are of no use to a model."""
    schema.pop("title", None)
    schema.pop("description", None)
    schema.setdefault("properties", {})
    for field in schema["properties"].values():
        field.pop("title", None)
        if field.get("default", ...) is None:
            del field["default"]
    return schema


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_FILE: Final = _object(
    path={"type": "string", "description": "Relative to the workspace."},
    size_bytes={"type": "integer"},
    url={"type": "string", "description": "Read it with resources/read, or by GET with the API key."},
)

_READ_ONLY: Final = types.ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


def _changing(*, destructive: bool, idempotent: bool) -> types.ToolAnnotations:
    """Return the annotations of a tool that changes the sandbox, and nothing outside of it."""
    return types.ToolAnnotations(
        read_only_hint=False,
        destructive_hint=destructive,
        idempotent_hint=idempotent,
        open_world_hint=False,
    )


_LISTING: Final = _object(
    files={"type": "array", "items": _FILE},
    left_out={"type": "integer", "description": "Number of files that are not listed."},
)

TOOLS: Final[Sequence[Tool]] = (
    Tool(
        "run_python",
        "Run Python",
        arguments.RunPython,
        tools.run_python,
        _RUN_PYTHON,
        _changing(destructive=False, idempotent=False),
    ),
    Tool(
        "run_shell",
        "Run a shell command",
        arguments.RunShell,
        tools.run_shell,
        _RUN_SHELL,
        _changing(destructive=True, idempotent=False),
    ),
    Tool(
        "list_files", "List files", arguments.ListFiles, tools.list_files, _LIST_FILES, _READ_ONLY, _LISTING
    ),
    Tool("read_file", "Read a file", arguments.ReadFile, tools.read_file, _READ_FILE, _READ_ONLY),
    Tool(
        "write_file",
        "Write a file",
        arguments.WriteFile,
        tools.write_file,
        _WRITE_FILE,
        _changing(destructive=True, idempotent=True),
        _FILE,
    ),
    Tool(
        "reset",
        "Start afresh",
        arguments.Reset,
        tools.reset,
        _RESET,
        _changing(destructive=True, idempotent=True),
    ),
)
BY_NAME: Final = {tool.name: tool for tool in TOOLS}
