"""How results show in a notebook.

What comes from the code that ran is not trusted, and the notebook it is shown in trusts all it is given:
HTML is shown in a frame without scripts and without the page's origin, SVG as a picture, and other types
that can run something are left out.
"""

import base64
import html
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from code_interpreter_client.models import Output, Result

Bundle = dict[str, Any]

_HARMLESS: Final = frozenset(
    {"text/plain", "text/latex", "application/json", "image/png", "image/jpeg", "image/gif", "image/webp"}
)
_MOST_CHARACTERS: Final = 200_000
_ROW_PIXELS: Final = 30
_LEAST_PIXELS, _MOST_PIXELS = 80, 480
_PRE: Final = '<pre style="margin:0;white-space:pre-wrap">{}</pre>'
_FRAME: Final = (
    '<iframe sandbox="" srcdoc="{}" style="width:100%;height:{}px;border:0;background:#fff"></iframe>'
)


def of_output(output: "Output") -> Bundle:
    """The bundle of one output."""
    bundle = {kind: value for kind, value in output.data.items() if kind in _HARMLESS}
    if "text/html" in output.data:
        bundle["text/html"] = _framed(str(output.data["text/html"]))
    elif "image/svg+xml" in output.data:
        bundle["text/html"] = _picture("image/svg+xml", str(output.data["image/svg+xml"]).encode())
    return bundle


def of_image(media_type: str, data: bytes) -> Bundle:
    """The bundle of an image."""
    bundle: Bundle = {"text/plain": f"<{media_type}, {len(data)} bytes>"}
    if media_type in _HARMLESS:
        return bundle | {media_type: base64.b64encode(data).decode()}
    return bundle | {"text/html": _picture(media_type, data)}


def of_result(result: "Result") -> Bundle:
    """What was printed and shown, in one bundle: as plain text, and as HTML.

    The last line's value is in stdout, as text, and not shown twice.
    """
    text = result.stdout + result.stderr
    if result.timed_out:
        text += f"[{result.failure}]\n"
    notes = [f"[{output.text}]\n" for output in result.outputs if output.images]
    prose = _prose(result)
    parts = [_PRE.format(html.escape(_shortened(prose)))] if prose else []
    parts += [shown for output in result.outputs if (shown := _shown(output))]
    if result.stderr:
        parts.append(
            _PRE.format(f'<span style="color:#b3261e">{html.escape(_shortened(result.stderr))}</span>')
        )
    if result.timed_out:
        parts.append(_PRE.format(html.escape(result.failure)))
    return {"text/plain": (text + "".join(notes)).rstrip("\n"), "text/html": "\n".join(parts)}


def _prose(result: "Result") -> str:
    """What was printed, without the value that is shown in a better form below."""
    printed = result.stdout.rstrip("\n")
    for output in result.outputs:
        if output.output_type == "execute_result" and _is_rich(output):
            printed = printed.removesuffix(output.text.rstrip("\n"))
    return printed.rstrip("\n")


def _is_rich(output: "Output") -> bool:
    return "text/html" in output.data or bool(output.images)


def _shown(output: "Output") -> str:
    if images := output.images:
        return _picture(images[0].media_type, images[0].data)
    if "text/html" in output.data:
        return _framed(str(output.data["text/html"]))
    # The text of a last line's value has been printed.
    return _PRE.format(html.escape(_shortened(output.text))) if output.output_type != "execute_result" else ""


def _framed(untrusted: str) -> str:
    rows = len(re.findall("<tr|<p|<br|<li|<h[1-6]", untrusted)) + 1
    height = min(max(rows * _ROW_PIXELS, _LEAST_PIXELS), _MOST_PIXELS)
    style = "<style>body{font:13px sans-serif}table{border-collapse:collapse}td,th{padding:2px 8px}</style>"
    return _FRAME.format(html.escape(style + untrusted), height)


def _picture(media_type: str, data: bytes) -> str:
    return f'<img src="data:{html.escape(media_type)};base64,{base64.b64encode(data).decode()}">'


def _shortened(text: str) -> str:
    left_out = len(text) - _MOST_CHARACTERS
    return text if left_out <= 0 else f"{text[:_MOST_CHARACTERS]}\n[{left_out} more characters]"
