"""Percentiles, medians and ratios. Pure."""

import math
import statistics
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that ``share`` (0 to 1) of all are not above: one that was measured (nearest rank)."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the median; nan of nothing."""
    return statistics.median(values) if values else math.nan


def ratio(value: float, other: float) -> float:
    """Return how many times the other a value is; nan where that can't be said."""
    return value / other if other else math.nan
