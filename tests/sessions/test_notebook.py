"""Cells as a notebook: what Jupyter's own library takes for valid, and shows once."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import nbformat
import pytest

from service.database.connection import to_json
from service.routes.history.notebook import stream
from service.routes.schemas.execute import ExecuteResponse
from sessions.records import TEXT_BYTES, CellRecord, StoredCell, StoredText

TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "x.py", line 1',
    "ZeroDivisionError: division by zero",
]
DIVISION = {"name": "ZeroDivisionError", "value": "division by zero", "traceback": TRACEBACK}


def a_cell(number: int = 1, code: str = "1", **changes: Any) -> CellRecord:
    """A cell that is done; ``changes`` are those of its result."""
    count = changes.pop("execution_count", number)
    fields = {"stdout": "", "stderr": "", "exit_code": 0, "timed_out": False, "duration_ms": 1, "files": []}
    result = ExecuteResponse.model_validate({**fields, "execution_id": uuid.uuid4().hex, **changes})
    return CellRecord(
        cell_id=uuid.uuid4().hex,
        session_id="session",
        number=number,
        code=code,
        state="done",
        started_at=1.0,
        timeout_ms=2000,
        finished_at=2.0,
        result={**result.model_dump(mode="json"), "execution_count": count},
    )


def begun(state: Any) -> CellRecord:
    """A cell without a result."""
    return CellRecord(uuid.uuid4().hex, "session", 7, "while True: pass", state, 1.0, 2000)


def shown(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """An output of `display`."""
    return {"output_type": "display_data", "data": data, "metadata": metadata or {}}


def value(text: str, **data: str) -> dict[str, Any]:
    """An output of a last expression."""
    return {
        "output_type": "execute_result",
        "execution_count": 1,
        "data": {"text/plain": text, **data},
        "metadata": {},
    }


def text_of(*cells: CellRecord, piece_bytes: int = TEXT_BYTES) -> str:
    """The file of the notebook, from a registry that returns at most `piece_bytes` at once."""

    def stored(text: str) -> StoredText:
        content = text.encode()

        async def read(start: int, count: int) -> bytes:
            return content[start : start + min(count, piece_bytes)]

        return StoredText(len(content), read)

    async def stored_cells() -> AsyncIterator[StoredCell]:
        for cell in cells:
            result = None if cell.result is None else stored(to_json(cell.result))
            yield StoredCell(cell, stored(cell.code), result)

    async def whole() -> bytes:
        return b"".join([piece async for piece in stream(stored_cells())])

    return asyncio.run(whole()).decode()


def written(*cells: CellRecord) -> list[Any]:
    """The cells of the notebook as Jupyter reads its file, found valid."""
    text = text_of(*cells)
    nbformat.validate(json.loads(text))
    notebook = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    assert json.loads(json.dumps(notebook)) == json.loads(text), "Jupyter would have repaired something"
    found: list[Any] = notebook["cells"]
    return found


def outputs_of(cell: CellRecord) -> list[Any]:
    """What is under one cell."""
    (found,) = written(cell)
    outputs: list[Any] = found["outputs"]
    return outputs


def test_empty_notebook_is_valid() -> None:
    """A session without cells gives a notebook that names its kernel; Jupyter would ask for it."""
    assert written() == []
    notebook = json.loads(text_of())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_cells_have_their_code_and_execution_counts() -> None:
    """The cells keep their order. The kernel counts, so the count starts again after a restart."""
    cells = [a_cell(1, "a = 1"), a_cell(2, "b\n\nc = '🐍'\n"), a_cell(3, "", execution_count=1)]
    found = written(*cells)
    assert [cell["source"] for cell in found] == [cell.code for cell in cells]
    assert [cell["execution_count"] for cell in found] == [1, 2, 1]
    assert [cell["id"] for cell in found] == [cell.cell_id for cell in cells]
    assert {cell["cell_type"] for cell in found} == {"code"}


def test_outputs_are_ordered_as_in_a_notebook() -> None:
    """The order is standard output, standard error, displays, error."""
    outputs = outputs_of(
        a_cell(stdout="out\n", stderr="err\n", outputs=[shown({"text/plain": "x"})], error=DIVISION)
    )
    assert [output["output_type"] for output in outputs] == ["stream", "stream", "display_data", "error"]
    assert [(output["name"], output["text"]) for output in outputs[:2]] == [
        ("stdout", "out\n"),
        ("stderr", "err\n"),
    ]


def test_last_value_is_shown_once() -> None:
    """The text of the last value is removed from standard output; text that the code printed stays."""
    (stream, result) = outputs_of(
        a_cell(stdout="hello\n   n\n0  1\n", outputs=[value("   n\n0  1", **{"text/html": "<table>"})])
    )
    assert stream["text"] == "hello\n"
    assert result["data"] == {"text/plain": "   n\n0  1", "text/html": "<table>"}
    assert result["execution_count"] == 1
    assert [output["output_type"] for output in outputs_of(a_cell(stdout="4\n", outputs=[value("4")]))] == [
        "execute_result"
    ]


def test_value_stays_in_text_if_text_follows_it() -> None:
    """Only text at the very end is removed, so nothing that the code printed is lost."""
    cell = a_cell(stdout="4\nfrom a thread\n", outputs=[value("4")])
    assert outputs_of(cell)[0]["text"] == "4\nfrom a thread\n"
    cell = a_cell(stdout="4\n", outputs=[shown({"text/plain": "4"})])
    assert outputs_of(cell)[0]["text"] == "4\n"


def test_traceback_is_shown_once() -> None:
    """The traceback is in the error, and not in standard error as well."""
    stderr = "a warning\n" + "\n".join(TRACEBACK) + "\n"
    (stream, error) = outputs_of(a_cell(stderr=stderr, exit_code=1, error=DIVISION))
    assert stream["text"] == "a warning\n"
    assert error == {
        "output_type": "error",
        "ename": "ZeroDivisionError",
        "evalue": "division by zero",
        "traceback": TRACEBACK,
    }


def test_limit_that_ended_a_cell_is_shown() -> None:
    """A limit has no traceback, but Jupyter shows only tracebacks, so there is one line."""
    error = {"name": "TimeoutExceeded", "value": "stopped after timeout_ms=10", "traceback": []}
    stderr = "KeyboardInterrupt\n"
    (stream, shown_error) = outputs_of(a_cell(stderr=stderr, exit_code=None, timed_out=True, error=error))
    assert stream["text"] == stderr
    assert shown_error["traceback"] == ["TimeoutExceeded: stopped after timeout_ms=10"]


@pytest.mark.parametrize("state", ["running", "lost"])
def test_cell_without_a_result_has_only_its_code(state: str) -> None:
    """The cell is running, or its end is not known."""
    (cell,) = written(begun(state))
    assert (cell["source"], cell["execution_count"], cell["outputs"]) == ("while True: pass", None, [])


def test_images_keep_their_file_ids() -> None:
    """The file ids are beside the metadata that the library has set."""
    image = shown(
        {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"}, {"image/png": {"width": 1, "file_id": "f"}}
    )
    assert outputs_of(a_cell(outputs=[image])) == [image]


@pytest.mark.parametrize("content", [{"a": [1, None]}, [1, 2], ["a"], "text", 2.5, True, None])
def test_any_mime_bundle_gives_a_valid_notebook(content: object) -> None:
    """JSON media types stay as they are; values of other types become text."""
    mimes = ["application/json", "application/vnd.vegalite.v5+json", "model/gltf+json", "x"]
    (output,) = outputs_of(a_cell(outputs=[shown(dict.fromkeys(mimes, content))]))
    assert [output["data"][mime] for mime in mimes[:2]] == [content, content]
    text = content if isinstance(content, str) else json.dumps(content)
    assert [output["data"][mime] for mime in mimes[2:]] == [text, text]


def test_fields_unknown_to_nbformat_are_left_out() -> None:
    """Unknown fields of an output are left out, and so is an invalid execution count."""
    output = {**value("4"), "execution_count": None, "display_id": "d"}
    assert outputs_of(a_cell(outputs=[output])) == [{**value("4"), "execution_count": None}]
    (cell,) = written(a_cell(execution_count=None))
    assert cell["execution_count"] is None
