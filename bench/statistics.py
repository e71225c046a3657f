"""Summaries of repeated measurements."""

import statistics
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """The middle one; robust against the odd one that the machine spoiled."""
    return statistics.median(values)


def percentile_99(values: Sequence[float]) -> float:
    """The value that ninety-nine of a hundred do not exceed, interpolated."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[98]
