"""Summaries of repeated measurements."""

import statistics
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """Return the median, which single outliers hardly change."""
    return statistics.median(values)


def percentile_99(values: Sequence[float]) -> float:
    """Return the 99th percentile, interpolated."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[98]
