"""Content from untrusted code as HTML and MIME bundles that cannot harm the notebook they are shown in.

A notebook trusts what it displays. So HTML goes into a frame without scripts and without the page's
origin, SVG becomes an image, and other media types that can run code are left out.
"""

import base64
import html
import re
from collections.abc import Mapping
from typing import Any, Final

Bundle = dict[str, Any]
"""A MIME bundle: media type to content."""

_HARMLESS: Final = frozenset(
    {"text/plain", "text/latex", "application/json", "image/png", "image/jpeg", "image/gif", "image/webp"}
)
_MAX_CHARACTERS: Final = 200_000
_ROW_PIXELS: Final = 30
_MIN_PIXELS, _MAX_PIXELS = 80, 480
_FRAME: Final = (
    '<iframe sandbox="" srcdoc="{}" style="width:100%;height:{}px;border:0;background:#fff"></iframe>'
)
_FRAME_STYLE: Final = (
    "<style>body{font:13px sans-serif}table{border-collapse:collapse}td,th{padding:2px 8px}</style>"
)


def display_bundle(data: Mapping[str, Any]) -> Bundle:
    """Return the harmless part of a display's MIME bundle."""
    bundle = {media_type: content for media_type, content in data.items() if media_type in _HARMLESS}
    if "text/html" in data:
        bundle["text/html"] = frame(str(data["text/html"]))
    elif "image/svg+xml" in data:
        bundle["text/html"] = picture("image/svg+xml", str(data["image/svg+xml"]).encode())
    return bundle


def image_bundle(media_type: str, data: bytes) -> Bundle:
    """Return the MIME bundle of an image."""
    bundle: Bundle = {"text/plain": f"<{media_type}, {len(data)} bytes>"}
    if media_type in _HARMLESS:
        return bundle | {media_type: base64.b64encode(data).decode()}
    return bundle | {"text/html": picture(media_type, data)}


def preformatted(text: str, style: str = "") -> str:
    """Return text as HTML, cut if it is very long. `style` is CSS for the text."""
    cut = len(text) - _MAX_CHARACTERS
    shown = text if cut <= 0 else f"{text[:_MAX_CHARACTERS]}\n[{cut} more characters]"
    content = html.escape(shown)
    if style:
        content = f'<span style="{style}">{content}</span>'
    return f'<pre style="margin:0;white-space:pre-wrap">{content}</pre>'


def frame(untrusted: str) -> str:
    """Return untrusted HTML in a sandboxed frame, whose height is guessed from the number of rows."""
    rows = len(re.findall("<tr|<p|<br|<li|<h[1-6]", untrusted)) + 1
    height = min(max(rows * _ROW_PIXELS, _MIN_PIXELS), _MAX_PIXELS)
    return _FRAME.format(html.escape(_FRAME_STYLE + untrusted), height)


def picture(media_type: str, data: bytes) -> str:
    """Return an image as an `img` element. Scripts in an SVG do not run there."""
    return f'<img src="data:{html.escape(media_type)};base64,{base64.b64encode(data).decode()}">'
