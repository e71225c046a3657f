"""Charts of Altair, Plotly and Bokeh become outputs, whatever renderer a program chooses.

Each library shows a chart as its own MIME type. Altair's charts also have a PNG image, which vl-convert
draws without a browser, and Plotly's if the image has a Kaleido that brings its browser. By themselves the
libraries would show HTML that loads scripts from the network, or open a browser. All is registered when a
library is imported, so that kernels without charts take no time and memory for it.
"""

import base64
import contextlib
import importlib
import importlib.util
import json
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ipykernel.zmqshell import ZMQInteractiveShell

from kernel_image.kernel.post_import import call_after_import

_STATIC_RENDERERS = frozenset({"json", "olli", "png", "svg", "jpeg", "jpg", "pdf"})
"""Renderers of Altair and Plotly that a program chooses for a format, and that stay as they are."""
_PLOTLY_MIME_TYPE = "application/vnd.plotly.v1+json"


def prepare(shell: ZMQInteractiveShell) -> None:
    """Change the libraries as described above, now or when they are imported."""

    call_after_import("altair", _prepare_altair)
    call_after_import("plotly.io._renderers", lambda module: _prepare_plotly(module, shell))
    # `show` displays the plot, and also writes it to the file that `output_file` names.
    call_after_import("bokeh.io.state", lambda module: module.curstate().output_notebook())


def _prepare_altair(altair: ModuleType) -> None:
    renderers = altair.renderers
    renderers.enable("mimetype")
    as_mime_type = renderers.get()

    def render(chart: dict[str, Any], **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle, metadata = as_mime_type(chart)
        # After its first line, the text says that the renderer was not enabled.
        bundle["text/plain"] = bundle["text/plain"].partition("\n")[0]
        return bundle | _png(lambda: _draw_chart(chart)), metadata

    for name in renderers.names():
        if name not in _STATIC_RENDERERS:
            renderers.register(name, render)
    renderers.enable("default")


def _prepare_plotly(module: ModuleType, shell: ZMQInteractiveShell) -> None:
    base = importlib.import_module("plotly.io.base_renderers")

    class Renderer(base.ExternalRenderer):  # type: ignore[name-defined,misc]
        """Displays a figure. Plotly's own renderers of MIME types need nbformat."""

        def render(self, fig_dict: dict[str, Any]) -> None:
            text = importlib.import_module("plotly.io").to_json(fig_dict, validate=False)
            bundle = {_PLOTLY_MIME_TYPE: json.loads(text), "text/plain": "<Plotly figure>"}
            shell.display_pub.publish(bundle | _png(lambda: _draw_figure(fig_dict)))

    renderers = module.renderers
    for name in list(renderers):
        if name not in _STATIC_RENDERERS:
            renderers[name] = Renderer()
    renderers.default = "plotly_mimetype"


def _png(draw: Callable[[], bytes | None]) -> dict[str, str]:
    """Return a bundle with the image that `draw` returns. Without data, or room to draw, there is none."""
    with contextlib.suppress(Exception):
        if image := draw():
            return {"image/png": base64.b64encode(image).decode()}
    return {}


def _draw_chart(chart: dict[str, Any]) -> bytes | None:
    """Draw a chart of Altair. Raises `ValueError` if its data are at an address: there is no network."""
    image: bytes = importlib.import_module("vl_convert").vegalite_to_png(chart, allowed_base_urls=[])
    return image


def _draw_figure(figure: dict[str, Any]) -> bytes | None:
    """Draw a figure of Plotly, if there is a Kaleido."""
    if importlib.util.find_spec("kaleido") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        image: bytes = importlib.import_module("plotly.io").to_image(figure, format="png", validate=False)
    return image
