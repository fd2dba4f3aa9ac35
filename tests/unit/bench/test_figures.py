import math

import pytest

from bench.measure.figures import median, percentile, ratio


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(200, 0, -1)]

    found = [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)]

    assert found == [1.0, 100.0, 198.0, 200.0]


def test_the_99th_percentile_of_few_values_is_the_highest() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_figures_without_values_are_nan() -> None:
    assert all(math.isnan(value) for value in (percentile([], 0.5), median([]), ratio(1.0, 0.0)))


@pytest.mark.parametrize(("value", "other", "expected"), [(6.0, 2.0, 3.0), (1.0, 4.0, 0.25)])
def test_a_ratio_is_a_quotient(value: float, other: float, expected: float) -> None:
    assert ratio(value, other) == expected
