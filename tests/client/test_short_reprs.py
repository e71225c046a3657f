"""The reprs of results: what `print(result)` shows."""

import base64

from code_interpreter_client.models.outputs import Output
from code_interpreter_client.models.results import Result


def test_printed_result_has_no_image_data() -> None:
    """The types of an output are shown, and the beginning of each value."""
    picture = base64.b64encode(b"\x89PNG" + bytes(20_000)).decode()
    output = Output("display_data", {"image/png": picture, "text/plain": "<Figure>"})
    result = Result(exit_code=0, timed_out=False, duration_ms=1, stdout="done\n", outputs=(output,))
    shown = str(result)
    assert len(shown) < 1000
    assert "done" in shown and "'image/png'" in shown and "<Figure>" in shown
    assert len(repr(output.images)) < 200
