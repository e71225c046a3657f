"""Results of calls as content of the protocol, for a model to read. Pure: no I/O.

A result is one event of a stream, and clients of the official SDK accept at most 1 MiB in an event. So long
text is cut, images are limited together, and further images and files are links.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import mcp_types as types

from service.files.media_types import guess_media_type
from sessions.executions.result import ExecutionResult, FinishedExecution, OutputFile
from sessions.session.shell_command import CommandResult

MAX_TEXT_CHARACTERS: Final = 40_000
"""Longest text of a result: about ten thousand tokens."""
MAX_IMAGES_BYTES: Final = 512 * 1024
"""Largest size of all images of a result together, in base64."""
MAX_LINKS: Final = 32
_MAX_PATH_CHARACTERS: Final = 512
"""A file with a longer path gets no link."""

_IMAGES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")
"""Media types of images that models can see, in order of preference."""
_TEXTS: Final = ("text/markdown", "text/plain", "text/latex")
"""Media types of text that is shown, in order of preference."""

Content = types.TextContent | types.ImageContent | types.ResourceLink


@dataclass(frozen=True)
class Links:
    """Makes addresses of files."""

    base_url: str
    """The service's address, as the client sees it."""
    are_supported: bool = True
    """Whether the client understands links."""

    def stored_file(self, file_id: str) -> str:
        """Return the address of a stored file."""
        return f"{self.base_url}/v1/files/{file_id}"

    def workspace_file(self, session_id: str, path: str) -> str:
        """Return the address of a file in a session's workspace."""
        return f"{self.base_url}/v1/sessions/{session_id}/files/{quote(path)}"


def text(value: str) -> types.TextContent:
    """Return a text, cut to `MAX_TEXT_CHARACTERS`."""
    return types.TextContent(text=cut(value))


def cut(value: str, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """Return a text, with its middle replaced by a note if it has more than ``limit`` characters."""
    if len(value) <= limit:
        return value
    tail = limit // 4
    left_out = len(value) - limit
    return f"{value[: limit - tail]}\n[… {left_out} characters left out …]\n{value[-tail:]}"


def failure(message: str) -> types.CallToolResult:
    """Return the result of a call that failed; the model reads the message."""
    return types.CallToolResult(content=[text(message)], is_error=True)


def of_execution(finished: FinishedExecution, links: Links, note: str = "") -> types.CallToolResult:
    """Return what code printed, displayed and wrote, after the ``note``."""
    result = finished.result
    images, image_remarks = _images(result.outputs, links)
    files, file_remarks = _file_links(result.files, links)
    printed = [note, finished.stdout, *_displayed_texts(result.outputs), _stderr(finished.stderr)]
    remarks = [*image_remarks, *file_remarks, *_skipped(result), *_ending(finished)]
    content = [types.TextContent(text=_joined(cut(_joined(printed)), *remarks) or "[no output]")]
    failed = result.timed_out or result.error is not None or result.exit_code != 0
    return types.CallToolResult(content=[*content, *images, *files], is_error=failed)


def of_command(result: CommandResult, note: str = "") -> types.CallToolResult:
    """Return what a shell command printed and how it ended, after the ``note``."""
    printed = cut(_joined(note, result.stdout, _stderr(result.stderr)))
    remark = ""
    if result.timed_out:
        remark = f"[stopped after {result.duration_ms / 1000:.1f} s: the time limit was reached]"
    elif result.exit_code != 0:
        remark = f"[exit code {result.exit_code}]"
    content = types.TextContent(text=_joined(printed, remark, _notice(result)) or "[no output]")
    return types.CallToolResult(content=[content], is_error=bool(remark))


def image(data: str, media_type: str) -> types.ImageContent | None:
    """Return an image; None if models cannot see this media type, or if it is too large.

    Args:
        data: the image in base64.
        media_type: such as `image/png`.
    """
    if media_type not in _IMAGES or len(data) > MAX_IMAGES_BYTES:
        return None
    return types.ImageContent(data=data, mime_type=media_type)


def link(uri: str, path: str, size_bytes: int) -> types.ResourceLink:
    """Return a link to a file."""
    return types.ResourceLink(uri=uri, name=path, mime_type=guess_media_type(path), size=size_bytes)


def _joined(*parts: str | Iterable[str]) -> str:
    """Return the parts that are not empty, each on lines of its own."""
    flat = [part for given in parts for part in ([given] if isinstance(given, str) else given)]
    return "\n".join(part.removesuffix("\n") for part in flat if part)


def _stderr(printed: str) -> str:
    return f"[stderr]\n{printed}" if printed.strip() else ""


def _displayed_texts(outputs: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Yield the texts of displays. The value of the last line is left out, as it is printed, too."""
    for output in outputs:
        data = output["data"]
        if output["output_type"] == "display_data" and not any(mime in data for mime in _IMAGES):
            yield next((data[mime] for mime in _TEXTS if isinstance(data.get(mime), str)), "")


def _images(
    outputs: Iterable[Mapping[str, Any]], links: Links
) -> tuple[list[types.ImageContent], Iterable[str]]:
    """Return the images that fit, and remarks on the others with their addresses."""
    room = MAX_IMAGES_BYTES
    images, remarks = [], []
    for output in outputs:
        media_type = next((mime for mime in _IMAGES if isinstance(output["data"].get(mime), str)), None)
        if media_type is None:
            continue
        data = "".join(output["data"][media_type].split())
        if len(data) <= room:
            room -= len(data)
            images.append(types.ImageContent(data=data, mime_type=media_type))
        else:
            where = _stored_image(output["metadata"].get(media_type), links)
            remarks.append(f"[an image of {len(data) * 3 // 4} bytes is too large to be shown here{where}]")
    return images, remarks


def _stored_image(facts: object, links: Links) -> str:
    if isinstance(facts, dict) and isinstance(facts.get("file_id"), str):
        return f"; it is at {links.stored_file(facts['file_id'])}"
    return ""


def _file_links(files: Sequence[OutputFile], links: Links) -> tuple[list[types.ResourceLink], list[str]]:
    """Return links to files, and a line about each for clients that do not show links."""
    linked = [file for file in files if len(file.path) <= _MAX_PATH_CHARACTERS][:MAX_LINKS]
    lines = [
        f"[file {file.path}, {file.size_bytes} bytes: {links.stored_file(file.file_id)}]" for file in linked
    ]
    if len(linked) < len(files):
        lines.append(f"[and {len(files) - len(linked)} more files: list_files lists them]")
    if not links.are_supported:
        return [], lines
    return [link(links.stored_file(file.file_id), file.path, file.size_bytes) for file in linked], lines


def _skipped(result: ExecutionResult) -> Iterable[str]:
    for file in result.skipped_files[:MAX_LINKS]:
        yield f"[file {file.path[:_MAX_PATH_CHARACTERS]} has no link: {file.reason}]"
    for stream in result.truncated:
        yield f"[{stream}: cut, over the limit]"


def _ending(finished: FinishedExecution) -> Iterable[str]:
    """Yield remarks on how an execution failed, and on the variables if they are gone."""
    result = finished.result
    if result.timed_out:
        kept = "; variables are kept" if result.state == "kept" else ""
        yield f"[stopped after {result.duration_ms / 1000:.1f} s: the time limit was reached{kept}]"
    elif result.error is not None and not result.error.traceback:
        message = f"[{result.error.name}: {cut(result.error.value, 1000)}]"
        # A limit is also the last line of stderr.
        if not finished.stderr.endswith(f"{message}\n"):
            yield message
    if not result.timed_out and result.exit_code not in (0, 1):
        yield f"[exit code {result.exit_code}]"
    if result.state != "kept":
        yield f"[{result.state_reason}]"
    yield _notice(result)


def _notice(result: ExecutionResult | CommandResult) -> str:
    return f"[{result.notice}]" if result.notice else ""
