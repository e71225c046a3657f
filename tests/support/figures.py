"""Programs that show figures and other outputs, or fail to show them."""

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n"
BACKENDS = {
    "use before pyplot": "import matplotlib\nmatplotlib.use('Agg')\n" + PLOT,
    "use after pyplot": "import matplotlib\n" + PLOT + "matplotlib.use('agg')\nplt.plot([2, 1])\n",
    "switch_backend": "import matplotlib.pyplot as plt\nplt.switch_backend('agg')\n" + PLOT,
    "rcParams": "import matplotlib\nmatplotlib.rcParams['backend'] = 'Agg'\n" + PLOT,
    "%matplotlib agg": "%matplotlib agg\n" + PLOT,
    "the environment": (
        "import os\nos.environ['MPLBACKEND'] = 'Agg'\nimport matplotlib\nmatplotlib.use('Agg')\n"
    )
    + PLOT,
    "cairo's replacement svg": "import matplotlib\nmatplotlib.use('svg')\n" + PLOT,
    "pdf": "import matplotlib\nmatplotlib.use('pdf')\n" + PLOT,
    "ps": "import matplotlib\nmatplotlib.use('ps')\n" + PLOT,
    "template": "import matplotlib\nmatplotlib.use('template')\n" + PLOT,
    "WebAgg": "import matplotlib\nmatplotlib.use('WebAgg')\n" + PLOT,
    "notebook": "import matplotlib\nmatplotlib.use('nbagg')\n" + PLOT,
    "inline": PLOT,
}
INTERACTIVE = ["matplotlib.use('TkAgg')", "matplotlib.use('QtAgg')", "plt.switch_backend('gtk3agg')"]

BROKEN = """
class Broken:
    def __repr__(self):
        raise RuntimeError("no text")
"""
TOO_LARGE = (
    "import matplotlib.pyplot as plt\nfigure = plt.figure(figsize=(100_000, 100_000))\nplt.plot([1, 2])\n"
)
NOT_SHOWN = {
    "a last value": (BROKEN + "Broken()", "RuntimeError"),
    "a display": (BROKEN + "display(Broken())", "RuntimeError"),
    "a display in the middle": (BROKEN + "display(Broken())\nprint('goes on')", "RuntimeError"),
    "a figure as last value": (TOO_LARGE + "figure", "ValueError"),
    "a displayed figure": (TOO_LARGE + "display(figure)", "ValueError"),
    "a shown figure": (TOO_LARGE + "plt.show()", "ValueError"),
    "an open figure": (TOO_LARGE, "ValueError"),
}
"""Programs with an output that cannot be shown, and the name of the error."""
