"""Convert the cells of a session to a Jupyter notebook of format 4.5, page by page. Nothing here does I/O.

The outputs of a cell are, in this order, its standard output, standard error, rich outputs and error. For
callers without a notebook, the kernel also prints the last value and the traceback. In a notebook these are
outputs of their own, so they are removed from the printed text.
"""

import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Final

from sessions.models import JsonObject
from sessions.records import CellPage, CellRecord

MEDIA_TYPE: Final = "application/x-ipynb+json"

_METADATA: Final[JsonObject] = {
    "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"},
    "language_info": {
        "name": "python",
        "mimetype": "text/x-python",
        "file_extension": ".py",
        "pygments_lexer": "ipython3",
        "codemirror_mode": {"name": "ipython", "version": 3},
        "nbconvert_exporter": "python",
    },
}
_REMOVED: Final[Mapping[str, str]] = {
    "result": "[the result was removed: the history was larger than KEY_HISTORY_MB]\n",
    "code": "[code and result were removed: the history was larger than KEY_HISTORY_MB]\n",
}
# Values of these media types alone may be something other than text.
_JSON_TYPE: Final = re.compile(r"application/(.*\+)?json")


def to_notebook(cells: Iterable[CellRecord]) -> JsonObject:
    """Return a valid notebook of ``cells``, in their order, ready to be encoded as JSON."""
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": _METADATA,
        "cells": [_code_cell(cell) for cell in cells],
    }


async def stream(pages: AsyncIterable[CellPage]) -> AsyncIterator[bytes]:
    """Yield the JSON of the notebook, one cell at a time."""
    begin, end = _encode(to_notebook([])).split(b"[]")
    yield begin + b"["
    separator = b""
    async for page in pages:
        for cell in page.cells:
            yield separator + _encode(_code_cell(cell))
            separator = b","
    yield b"]" + end


def _encode(value: JsonObject) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _code_cell(cell: CellRecord) -> JsonObject:
    result = cell.result
    return {
        "cell_type": "code",
        "id": cell.cell_id,
        "metadata": {},
        "source": cell.code,
        "execution_count": None if result is None else _execution_count(result),
        "outputs": _outputs_of(cell),
    }


def _outputs_of(cell: CellRecord) -> list[JsonObject]:
    """Return the outputs of a cell, or text that says that they were removed."""
    if cell.removed is not None:
        return [{"output_type": "stream", "name": "stderr", "text": _REMOVED[cell.removed]}]
    return [] if cell.result is None else _outputs(cell.result)


def _execution_count(result: JsonObject) -> int | None:
    value = result.get("execution_count")
    return value if isinstance(value, int) and value >= 0 else None


def _outputs(result: JsonObject) -> list[JsonObject]:
    rich = [_rich_output(output) for output in result["outputs"]]
    error = result["error"]
    printed = {
        "stdout": _without_value(result["stdout"], rich),
        "stderr": _without_traceback(result["stderr"], error),
    }
    streams: list[JsonObject] = [
        {"output_type": "stream", "name": name, "text": text} for name, text in printed.items() if text
    ]
    return streams + rich + ([] if error is None else [_error_output(error)])


def _rich_output(output: JsonObject) -> JsonObject:
    """Return an output with only the fields that nbformat defines for its type."""
    taken: JsonObject = {
        "output_type": output["output_type"],
        "data": {mime: _mime_value(mime, value) for mime, value in output["data"].items()},
        "metadata": output["metadata"],
    }
    if output["output_type"] == "execute_result":
        taken["execution_count"] = _execution_count(output)
    return taken


def _mime_value(mime: str, value: Any) -> Any:
    if isinstance(value, str) or _JSON_TYPE.fullmatch(mime):
        return value
    return json.dumps(value)


def _error_output(error: JsonObject) -> JsonObject:
    traceback = error["traceback"] or [f"{error['name']}: {error['value']}"]
    return {
        "output_type": "error",
        "ename": error["name"],
        "evalue": error["value"],
        "traceback": traceback,
    }


def _without_value(stdout: str, rich: list[JsonObject]) -> str:
    """Return ``stdout`` without the text of the last value, which the kernel printed at the end."""
    if rich and rich[-1]["output_type"] == "execute_result":
        text = rich[-1]["data"].get("text/plain")
        if text is not None:
            return stdout.removesuffix(f"{text}\n")
    return stdout


def _without_traceback(stderr: str, error: JsonObject | None) -> str:
    """Return ``stderr`` without the traceback of ``error``, which the kernel printed at the end."""
    if error is None or not error["traceback"]:
        return stderr
    text = "\n".join(error["traceback"]).rstrip("\n")
    return stderr.removesuffix(f"{text}\n")
