"""Figures of matplotlib become outputs, whatever backend a program chooses, and show most scripts.

By itself, a figure is an output with the backend "inline" only. Programs often choose another one by habit
(``matplotlib.use("Agg")``), and their figures would be lost without a word.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.pylabtools import select_figure_formats

from kernel_image import contract
from kernel_image.kernel.post_import import call_after_import

_INLINE = ("inline", "module://matplotlib_inline.backend_inline")
_SETTINGS = Path(contract.MATPLOTLIB_CACHE).with_name("matplotlibrc")
"""The image's settings of matplotlib, whatever file a program uses."""


def prepare(shell: ZMQInteractiveShell) -> None:
    """Change matplotlib as described above, now or when it is imported."""

    def show_in_outputs(pyplot: ModuleType) -> None:
        original = pyplot.show

        def show(*args: Any, **kwargs: Any) -> None:
            """Show all open figures, and close them."""
            if _is_inline():
                original(*args, **kwargs)
            else:
                show_open_figures(shell)

        pyplot.show = show  # type: ignore[attr-defined]

    call_after_import("matplotlib.pyplot", show_in_outputs)
    call_after_import("matplotlib.font_manager", _add_fallback_fonts)


def show_open_figures(shell: ZMQInteractiveShell) -> None:
    """Show the open figures and close them. With the backend "inline", these are the figures of this cell."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    if helpers is None or not helpers.Gcf.figs:
        return
    from matplotlib_inline import backend_inline  # noqa: PLC0415 it imports matplotlib
    from matplotlib_inline.config import InlineBackend  # noqa: PLC0415

    backend = InlineBackend.instance(parent=shell)
    if not _has_formatter(shell):
        select_figure_formats(shell, backend.figure_formats, **backend.print_figure_kwargs)
    if _is_inline():
        backend_inline.flush_figures()
    else:
        backend_inline.show(close=True)


def _is_inline() -> bool:
    """Return whether the backend makes outputs of its figures by itself."""
    return sys.modules["matplotlib"].get_backend() in _INLINE


def _has_formatter(shell: ZMQInteractiveShell) -> bool:
    """Return whether figures can be shown as an image."""
    figure = sys.modules["matplotlib.figure"].Figure
    formatter = shell.display_formatter
    assert formatter is not None
    return any(figure in one.type_printers for one in formatter.formatters.values())


def _add_fallback_fonts(font_manager: ModuleType) -> None:
    """Let every lookup of fonts find the families for other scripts, too.

    Programs and style sheets overwrite ``font.family``, so the fallback cannot be there.
    """
    settings = sys.modules["matplotlib"].rc_params_from_file(_SETTINGS, use_default_template=False)
    _, *fallbacks = settings["font.family"]
    manager_class = font_manager.FontManager
    find = manager_class._find_fonts_by_props

    def find_with_fallbacks(self: Any, prop: Any, *args: Any, **kwargs: Any) -> list[Any]:
        prop = font_manager.FontProperties._from_any(prop)
        found: list[Any] = find(self, prop, *args, **kwargs)
        if (kwargs.get("fontext") or (args[0] if args else "ttf")) == "ttf":
            families = [family for family in fallbacks if family not in prop.get_family()]
            if families:
                others = prop.copy()
                others.set_family(families)
                found += [path for path in find(self, others, *args, **kwargs) if path not in found]
        return found

    manager_class._find_fonts_by_props = find_with_fallbacks
