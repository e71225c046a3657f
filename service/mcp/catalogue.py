"""The tools as a model sees them: names, descriptions, what they take and give."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mcp_types as types

from service.mcp import arguments, content, tools
from service.mcp.arguments import Arguments
from service.mcp.tools import Call, Result
from service.settings import Settings

_RUN_PYTHON: Final = """\
Run Python code in this conversation's own IPython kernel and get back what it printed, the value of its \
last line, images it drew, tracebacks, and links to files it made or changed.
State is kept: variables, imports and files of earlier calls are there; take small steps rather than \
repeating yourself. The working folder is the current directory: files that the user or write_file put \
there are opened by their plain name, and what the code saves there comes back as a link.
Installed: numpy, pandas, scipy, sympy, statsmodels, scikit-learn, xgboost, networkx, matplotlib, seaborn, \
scikit-image, OpenCV, Pillow, openpyxl, XlsxWriter, python-docx, python-pptx, pdfplumber, pypdf, \
reportlab, lxml, BeautifulSoup. There is no network: nothing can be downloaded or installed.
Limits of a call: {most_sec} s, {cpu_sec} s of CPU time, {memory_mb} MiB of memory; files have {disk_mb} \
MiB in all. Output over {text} characters is cut in the middle. input() reads end of file."""

_RUN_SHELL: Final = """\
Run a bash command in the working folder that run_python uses too, and get back its output and exit code. \
Files are shared with Python; variables, directory changes and environment of one command do not reach the \
next. There is no network. To run Python, use run_python, which keeps its state."""

_LIST_FILES: Final = "List all files in the working folder, those in subfolders included, with their sizes."

_READ_FILE: Final = """\
Look at a file in the working folder: text, cut in the middle over {text} characters, or an image. \
Anything else is a link that the user can download; open it with Python to see what is in it."""

_WRITE_FILE: Final = """\
Put a file into the working folder, in place of one of that name; folders are made. Give its content as \
text, as base64, or as the file_id of a file that was uploaded to the service. At most {file_mb} MiB."""

_RESET: Final = """\
Forget all variables and start a new kernel, also when code hangs; files are kept, unless delete_files is \
true."""


@dataclass(frozen=True)
class Tool:
    """A tool: ``run`` gets what ``arguments`` made of the caller's."""

    name: str
    title: str
    arguments: type[Arguments]
    run: Callable[[Call, Any], Awaitable[Result]]
    description: str
    annotations: types.ToolAnnotations
    output_schema: dict[str, Any] | None = None

    def definition(self, settings: Settings) -> types.Tool:
        """The tool as it is listed, with this service's limits."""
        schema = _plain(self.arguments.model_json_schema())
        if self.arguments is arguments.RunPython:
            longest = settings.execution.max_exec_timeout_ms / 1000
            schema["properties"]["timeout_seconds"] |= {"maximum": longest, "default": longest}
        return types.Tool(
            name=self.name,
            title=self.title,
            description=self.description.format(
                cpu_sec=settings.execution.cpu_time_limit_sec,
                memory_mb=settings.execution.memory_limit_mb,
                most_sec=f"{settings.execution.max_exec_timeout_ms / 1000:g}",
                file_mb=settings.storage.max_file_size_mb,
                disk_mb=settings.containers.workspace_size_mb,
                text=content.MAX_TEXT,
            ),
            input_schema=schema,
            output_schema=self.output_schema,
            annotations=self.annotations,
        )


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without what tells a model nothing: titles, and defaults that are null."""
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
    path={"type": "string", "description": "Relative to the working folder."},
    size_bytes={"type": "integer"},
    url={"type": "string", "description": "For resources/read, or a GET with the API key."},
)

_LOOKS: Final = types.ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)


def _changes(*, destructive: bool, idempotent: bool) -> types.ToolAnnotations:
    """Of a tool that changes the sandbox; nothing of it reaches the world outside."""
    return types.ToolAnnotations(
        read_only_hint=False,
        destructive_hint=destructive,
        idempotent_hint=idempotent,
        open_world_hint=False,
    )


_LISTING: Final = _object(
    files={"type": "array", "items": _FILE},
    left_out={"type": "integer", "description": "Files that are there but not listed."},
)

TOOLS: Final[Sequence[Tool]] = (
    Tool(
        "run_python",
        "Run Python",
        arguments.RunPython,
        tools.run_python,
        _RUN_PYTHON,
        _changes(destructive=False, idempotent=False),
    ),
    Tool(
        "run_shell",
        "Run a shell command",
        arguments.RunShell,
        tools.run_shell,
        _RUN_SHELL,
        _changes(destructive=True, idempotent=False),
    ),
    Tool("list_files", "List files", arguments.ListFiles, tools.list_files, _LIST_FILES, _LOOKS, _LISTING),
    Tool("read_file", "Read a file", arguments.ReadFile, tools.read_file, _READ_FILE, _LOOKS),
    Tool(
        "write_file",
        "Write a file",
        arguments.WriteFile,
        tools.write_file,
        _WRITE_FILE,
        _changes(destructive=True, idempotent=True),
        _FILE,
    ),
    Tool(
        "reset",
        "Start afresh",
        arguments.Reset,
        tools.reset,
        _RESET,
        _changes(destructive=True, idempotent=True),
    ),
)
BY_NAME: Final = {tool.name: tool for tool in TOOLS}
