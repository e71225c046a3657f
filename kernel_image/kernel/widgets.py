"""Widgets stand as one line of text in the outputs of clients that have no page to show them on.

The line is updated at the end of the cell, so that it has the widget's last state: a progress bar says 100%.
A notebook shows the widget itself, and is left alone.
"""

from types import ModuleType
from typing import Any

from ipykernel.zmqshell import ZMQInteractiveShell

from kernel_image.kernel.post_import import call_after_import


def prepare(shell: ZMQInteractiveShell) -> None:
    """Change ipywidgets as described above, now or when it is imported."""
    shown: dict[str, tuple[Any, dict[str, Any], object]] = {}
    """Widgets that the cell has displayed, by the id of the display.

    Each has its MIME bundle, and the bar of tqdm that it belongs to: the widget does not keep it alive.
    """

    def display(widget: Any) -> None:
        bundle = None if vars(shell).get("in_notebook") else _bundle(widget)
        if bundle is None:
            # IPython then displays the widget as any other object.
            raise NotImplementedError
        identifier = f"widget-{widget.model_id}"
        shown[identifier] = widget, bundle, widget.pbar.close.__self__ if hasattr(widget, "pbar") else None
        shell.display_pub.publish(bundle, transient={"display_id": identifier})

    def update_and_forget() -> None:
        for identifier, (widget, bundle, _) in shown.items():
            text = _line(widget)
            if text != bundle["text/plain"]:
                data = bundle | {"text/plain": text}
                shell.display_pub.publish(data, transient={"display_id": identifier}, update=True)
        shown.clear()

    def add_method(module: ModuleType) -> None:
        module.Widget._ipython_display_ = display
        shell.events.register("post_execute", update_and_forget)

    call_after_import("ipywidgets.widgets.widget", add_method)


def _bundle(widget: Any) -> dict[str, Any] | None:
    """Return the widget's MIME bundle; None if it has no view."""
    bundle: dict[str, Any] | None = widget._repr_mimebundle_()
    return None if bundle is None else bundle | {"text/plain": _line(widget)}


def _line(widget: Any) -> str:
    """Return the widget's text, on one line."""
    return " ".join(repr(widget).split())
