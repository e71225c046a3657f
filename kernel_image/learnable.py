"""Heavy modules of the images."""

from typing import Final

MODULES: Final = (
    "scipy.stats",
    "scipy.optimize",
    "scipy.signal",
    "scipy.integrate",
    "scipy.interpolate",
    "sklearn.linear_model",
    "sklearn.ensemble",
    "sklearn.cluster",
    "sklearn.datasets",
    "sklearn.model_selection",
    "seaborn",
    "statsmodels.api",
    "skimage.io",
    "xgboost",
    "networkx",
    "sympy",
    "openpyxl",
    "docx",
    "pptx",
    "bs4",
    "requests",
    "plotly.express",
    "altair",
    "bokeh.plotting",
    "duckdb",
    "geopandas",
    "h5py",
    "lightgbm",
)
"""Modules that a zygote may import because programs of earlier calls did. Their imports start no thread.

Some are in larger images only.
"""
