"""How a result is displayed in a notebook."""

from collections.abc import Sequence
from typing import Final

from code_interpreter_client.models.outputs import Output
from code_interpreter_client.models.untrusted_html import Bundle, frame, picture, preformatted

_STDERR: Final = "color:#b3261e"


def result_bundle(stdout: str, stderr: str, outputs: Sequence[Output], notice: str) -> Bundle:
    """Return text and outputs as one MIME bundle, with a plain form and an HTML form.

    `notice` is added at the end, for instance that the code timed out. The last line's value is part of
    `stdout` as text, so it is not repeated, except in a richer form.
    """
    text = stdout + stderr
    if notice:
        text += f"[{notice}]\n"
    text += "".join(f"[{output.text}]\n" for output in outputs if output.images)

    if any(output.output_type == "stream" for output in outputs):
        parts = [_in_order(output) for output in outputs]
    else:
        # Without text among the outputs, as an older service answers.
        printed = _without_rich_values(stdout, outputs)
        parts = [preformatted(printed)] if printed else []
        parts += [shown for output in outputs if (shown := _as_html(output))]
        if stderr:
            parts.append(preformatted(stderr, _STDERR))
    if notice:
        parts.append(preformatted(notice))
    return {"text/plain": text.rstrip("\n"), "text/html": "\n".join(parts)}


def _in_order(output: Output) -> str:
    if output.output_type == "stream":
        return preformatted(output.text.rstrip("\n"), _STDERR if output.name == "stderr" else "")
    return _as_html(output) or preformatted(output.text)


def _without_rich_values(stdout: str, outputs: Sequence[Output]) -> str:
    """Return `stdout` without the text of a last line's value that has a richer form."""
    printed = stdout.rstrip("\n")
    for output in outputs:
        if output.output_type == "execute_result" and ("text/html" in output.data or output.images):
            printed = printed.removesuffix(output.text.rstrip("\n"))
    return printed.rstrip("\n")


def _as_html(output: Output) -> str:
    if images := output.images:
        return picture(images[0].media_type, images[0].data)
    if "text/html" in output.data:
        return frame(str(output.data["text/html"]))
    # The text of a last line's value is in stdout already.
    return "" if output.output_type == "execute_result" else preformatted(output.text)
