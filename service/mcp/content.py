"""Results of calls as content of the protocol, for a model to read. Pure: no I/O.

A result is one event of a stream, and clients of the official SDK accept at most 1 MiB in an event. So long
text is cut, images are limited together, and further images and files are links.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import mcp_types as types

from service.files.media_types import guess_media_type
from sessions.executions.result import ExecutionResult, FinishedExecution, OutputFile
from sessions.models import TextSpan
from sessions.session.shell_command import CommandResult

MAX_TEXT_CHARACTERS: Final = 40_000
"""Longest text of a result: about ten thousand tokens."""
MAX_IMAGES_BYTES: Final = 512 * 1024
"""Largest size of all images of a result together, in base64."""
MAX_LINKS: Final = 32
_MAX_TEXTS: Final = 64
"""Texts between images. Each takes some bytes of its own."""
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
    """Return what code printed and displayed, as it was made, and the files that it wrote.

    The ``note`` comes first. The remarks on the execution are in the last text.
    """
    result = finished.result
    files, file_remarks = _file_links(result.files, links)
    remarks = _joined(*file_remarks, *_skipped(result), *_ending(finished))
    blocks = _Blocks(note)
    for part in _shown(finished, links):
        blocks.add(part)
    failed = result.timed_out or result.error is not None or result.exit_code != 0
    return types.CallToolResult(content=[*blocks.content(remarks), *files], is_error=failed)


class _Blocks:
    """Images, and the texts between them, in order."""

    def __init__(self, note: str) -> None:
        self._blocks: list[list[str] | types.ImageContent] = []
        self._texts: list[list[str]] = []
        self.add(note)

    def add(self, part: str | types.ImageContent) -> None:
        """Add an image, or a text that begins a line. Beyond `_MAX_TEXTS`, text is added to the last one."""
        if isinstance(part, types.ImageContent):
            self._blocks.append(part)
        elif (self._blocks and isinstance(self._blocks[-1], list)) or len(self._texts) == _MAX_TEXTS:
            self._texts[-1].append(part)
        else:
            self._texts.append([part])
            self._blocks.append(self._texts[-1])

    def content(self, remarks: str) -> list[types.TextContent | types.ImageContent]:
        """Return all of it, with the middle of the texts cut out if they are too long together."""
        texts = iter(_cut_together([_joined(text) for text in self._texts]))
        blocks = [next(texts) if isinstance(block, list) else block for block in self._blocks]
        last = blocks[-1]
        if isinstance(last, str):
            blocks[-1] = _joined(last, remarks)
        else:
            blocks.append(remarks)
        found = [
            types.TextContent(text=block) if isinstance(block, str) else block for block in blocks if block
        ]
        return found or [types.TextContent(text="[no output]")]


def _cut_together(texts: Sequence[str]) -> list[str]:
    """Return texts without the middle of all of them, if they have too many characters together."""
    left_out = sum(map(len, texts)) - MAX_TEXT_CHARACTERS
    if left_out <= 0:
        return list(texts)
    begin = MAX_TEXT_CHARACTERS - MAX_TEXT_CHARACTERS // 4
    found, at = [], 0
    for value in texts:
        head, tail = value[: max(0, begin - at)], value[max(0, begin + left_out - at) :]
        if at <= begin < at + len(value):
            head += f"\n[… {left_out} characters left out …]\n"
        found.append(head + tail)
        at += len(value)
    return found


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


def _shown(finished: FinishedExecution, links: Links) -> Iterable[str | types.ImageContent]:
    """Yield printed text, texts of displays, images that fit, and remarks on the others, as they were made.

    The value of the last line is printed, too, so that its text is left out.
    """
    room = MAX_IMAGES_BYTES
    stream = "stdout"
    for entry in finished.result.order:
        if isinstance(entry, TextSpan):
            name = f"[{entry.stream}]\n" if entry.stream != stream else ""
            stream = entry.stream
            yield name + finished.text(entry)
            continue
        output = finished.result.outputs[entry]
        data = output["data"]
        media_type = next((mime for mime in _IMAGES if isinstance(data.get(mime), str)), None)
        if media_type is None:
            if output["output_type"] == "display_data":
                yield next((data[mime] for mime in _TEXTS if isinstance(data.get(mime), str)), "")
            continue
        image_data = "".join(data[media_type].split())
        if len(image_data) <= room:
            room -= len(image_data)
            yield types.ImageContent(data=image_data, mime_type=media_type)
        else:
            where = _stored_image(output["metadata"].get(media_type), links)
            yield f"[an image of {len(image_data) * 3 // 4} bytes is too large to be shown here{where}]"


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
