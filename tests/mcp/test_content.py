"""Results as content for a model: cut text, limited images, remarks. Pure functions."""

import json
from typing import Any

import pytest

from service.mcp import content
from service.mcp.content import Links
from sessions.executions.result import ExecutionResult, FinishedExecution, OutputFile
from sessions.models import CellError, SkippedFile, TextSpan, Usage

LINKS = Links("http://host:8000")


def result(stdout: str = "", stderr: str = "", **fields: Any) -> FinishedExecution:
    """Return an execution that ended well, except for `fields`."""
    plain: dict[str, Any] = {
        "exit_code": 0,
        "timed_out": False,
        "duration_ms": 5,
        "files": (),
        "outputs": (),
        "error": None,
        "state": "kept",
        "state_reason": "",
        "execution_count": None,
        "cell_id": None,
        "execution_id": "x",
        "truncated": (),
        "skipped_files": (),
        "usage": Usage(0, 1 << 20, 0.0),
    }
    if "order" not in fields:
        spans = [TextSpan("stdout", 0, len(stdout)), TextSpan("stderr", 0, len(stderr))]
        plain["order"] = [*(span for span in spans if span.end), *range(len(fields.get("outputs", ())))]
    return FinishedExecution(stdout, stderr, ExecutionResult(**plain | fields))


def picture(size: int, file_id: str | None = None) -> dict[str, object]:
    """Return a display with an image of `size` characters of base64."""
    facts = {} if file_id is None else {"image/png": {"file_id": file_id}}
    data = {"image/png": "A" * size, "text/plain": "<Figure>"}
    return {"output_type": "display_data", "data": data, "metadata": facts}


@pytest.mark.parametrize("length", [0, 10, 40_000])
def test_text_up_to_the_limit_is_not_cut(length: int) -> None:
    """The limit itself is included."""
    assert content.cut("x" * length) == "x" * length


def test_long_text_is_cut_in_the_middle() -> None:
    """A note says how many characters are missing."""
    assert content.cut("abcdefghij" * 10, 8) == "abcdef\n[… 92 characters left out …]\nij"


def test_result_fits_into_one_event() -> None:
    """A result with too much of everything has less than 1 MiB as JSON."""
    many = result(
        stdout="\x01" * 2_000_000,
        stderr="\x02" * 2_000_000,
        outputs=[picture(200_000, "f" * 36) for _ in range(100)],
        files=[
            OutputFile(path="\x01" * 500 + str(number), file_id="f" * 36, size_bytes=1)
            for number in range(256)
        ],
        skipped_files=[SkippedFile(path="\x01" * 4000, size_bytes=1, reason="large")] * 256,
        error=CellError(name="E", value="\x01" * 1_000_000, traceback=()),
    )
    assert len(content.of_execution(many, LINKS).model_dump_json()) < 1024 * 1024


def test_images_over_the_limit_become_links() -> None:
    """A remark has the address of an image that does not fit. The plain text of images is left out."""
    parts = content.of_execution(
        result(outputs=[picture(300_000), picture(300_000, "id-2"), picture(100_000)]), LINKS
    )
    first, remark, last = parts.content
    assert [len(image.data) for image in (first, last)] == [300_000, 100_000]  # type: ignore[union-attr]
    assert "too large to be shown here; it is at http://host:8000/v1/files/id-2]" in remark.text  # type: ignore[union-attr]
    assert "Figure" not in remark.text  # type: ignore[union-attr]


def test_displays_become_text() -> None:
    """A display without an image gives its text, in Markdown if there is some."""
    outputs = [
        {"output_type": "display_data", "data": {"text/plain": "plain", "text/html": "<b>"}, "metadata": {}},
        {"output_type": "display_data", "data": {"text/plain": "p", "text/markdown": "*m*"}, "metadata": {}},
        {"output_type": "execute_result", "data": {"text/plain": "printed"}, "metadata": {}},
    ]
    [shown] = content.of_execution(result(stdout="printed\n", outputs=outputs), LINKS).content
    assert shown.text == "printed\nplain\n*m*"  # type: ignore[union-attr]


def test_text_and_displays_are_in_the_order_they_were_made() -> None:
    """Text between two images is one block. Text of stderr is named, and so is the stdout after it."""
    order = (
        TextSpan("stdout", 0, 2),
        0,
        TextSpan("stdout", 2, 4),
        TextSpan("stderr", 0, 2),
        TextSpan("stdout", 4, 6),
        1,
    )
    shown = content.of_execution(
        result(stdout="a\nb\nc\n", stderr="e\n", outputs=[picture(8), picture(12)], order=order), LINKS
    ).content
    assert [getattr(block, "text", None) or len(block.data) for block in shown] == [  # type: ignore[union-attr]
        "a",
        8,
        "b\n[stderr]\ne\n[stdout]\nc",
        12,
    ]


def test_long_text_among_images_is_cut_in_the_middle_of_all_of_it() -> None:
    """A thousand texts and images become a bounded number of blocks, with the first and the last text."""
    stdout = "".join(f"{number:0100}" for number in range(1000))
    order = [entry for at in range(1000) for entry in (TextSpan("stdout", 100 * at, 100 * at + 100), at)]
    shown = content.of_execution(
        result(stdout=stdout, outputs=[picture(8)] * 1000, order=order), LINKS
    ).content
    texts = [block.text for block in shown if hasattr(block, "text")]
    assert len(texts) <= 64
    assert len("".join(texts)) < content.MAX_TEXT_CHARACTERS + 1000
    assert texts[0] == f"{0:0100}"
    assert texts[-1].endswith(f"{999:0100}")


def test_malformed_displays_are_ignored() -> None:
    """User code controls the content of displays, so they may have any shape."""
    outputs = [
        {"output_type": "display_data", "data": {"image/png": ["no"], "text/plain": 5}, "metadata": {}},
        {"output_type": "display_data", "data": {"image/png": "x" * 600_000}, "metadata": {"image/png": 3}},
        {"output_type": "display_data", "data": {}, "metadata": {}},
    ]
    parts = content.of_execution(result(outputs=outputs), LINKS)
    assert len(parts.content) == 1
    json.loads(parts.model_dump_json())


def test_failures_are_described_in_remarks() -> None:
    """Limits, exit codes, lost variables, files without a link and cut streams each get a remark."""
    parts = content.of_execution(
        result(
            exit_code=137,
            error=CellError(name="MemoryLimitExceeded", value="over 128 MiB", traceback=()),
            state="restarted",
            state_reason="the kernel ended; a new one is ready",
            truncated=["stdout"],
            skipped_files=[SkippedFile(path="big", size_bytes=1, reason="File size exceeds")],
        ),
        LINKS,
    )
    assert parts.is_error
    assert parts.content[0].text.splitlines() == [  # type: ignore[union-attr]
        "[file big has no link: File size exceeds]",
        "[stdout: cut, over the limit]",
        "[MemoryLimitExceeded: over 128 MiB]",
        "[exit code 137]",
        "[the kernel ended; a new one is ready]",
    ]
