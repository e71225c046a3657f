"""Results as JSON: the response and the registry's row have the fields of the documented schema."""

import json
from dataclasses import replace

from service.routes.event_stream import answer
from service.routes.schemas.execute import ExecuteResponse
from service.routes.shapes import Shape
from sessions.executions.result import ExecutionResult, FinishedExecution, OutputFile
from sessions.models import CellError, SkippedFile, Usage

INLINE = Shape(refers=False, ordered=False)
RESULT = ExecutionResult(
    exit_code=1,
    timed_out=False,
    duration_ms=12,
    files=(OutputFile("out/a.csv", "9b2f6c1e-3d55-4d0b-8a49-0c1f5b7a2e64", 3),),
    outputs=(
        {
            "output_type": "display_data",
            "data": {"text/plain": "é\u2028", "application/json": [1.5, 10**20]},
            "metadata": {"text/plain": {"a": None}},
        },
    ),
    order=(0,),
    error=CellError("ValueError", "no", ("Traceback", "ValueError: no")),
    state="kept",
    state_reason="the session's kernel goes on",
    execution_count=3,
    cell_id="a41c7d0e92b84f6d8f0b5c3e6a7d1928",
    execution_id="a41c7d0e92b84f6d8f0b5c3e6a7d1928",
    truncated=("stdout",),
    skipped_files=(SkippedFile("big.bin", 10, "too large"),),
    usage=Usage(0, 1 << 20, 0.0),
)


def test_response_is_the_stored_json_and_has_the_bytes_of_the_schema() -> None:
    """The response is not validated, so it is compared with what the schema itself would write."""
    for result in (RESULT, replace(RESULT, error=None, files=(), outputs=(), order=(), cell_id=None)):
        finished = FinishedExecution("out\n", "err\n", result)
        body = bytes(answer(finished, INLINE).body)
        assert json.loads(body) == finished.as_json()
        assert (
            body == ExecuteResponse.model_validate(finished.as_json(), strict=True).model_dump_json().encode()
        )


def test_numbers_that_json_lacks_are_null() -> None:
    """NaN and infinities in outputs become null, as strict clients refuse them."""
    outputs = ({"output_type": "display_data", "data": {"a/json": float("nan")}, "metadata": {}},)
    body = bytes(answer(FinishedExecution("", "", replace(RESULT, outputs=outputs)), INLINE).body)
    assert json.loads(body)["outputs"][0]["data"] == {"a/json": None}
