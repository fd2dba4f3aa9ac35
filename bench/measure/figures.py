"""Percentiles, medians and ratios. Pure."""

import math
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile, ``share`` being 0 to 1: always one of the values; nan if there are none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the median; nan if there are no values."""
    return statistics.median(values) if values else math.nan


def ratio(value: float, other: float) -> float:
    """Return ``value / other``; nan if ``other`` is 0."""
    return value / other if other else math.nan
