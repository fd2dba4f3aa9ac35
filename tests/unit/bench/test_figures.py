import math

import pytest

from bench.measure.figures import median, percentile, ratio


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(200, 0, -1)]

    found = [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)]

    assert found == [1.0, 100.0, 198.0, 200.0]


def test_of_few_values_the_99th_percentile_is_the_worst() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0


def test_of_nothing_nothing_is_said() -> None:
    assert all(math.isnan(value) for value in (percentile([], 0.5), median([]), ratio(1.0, 0.0)))


@pytest.mark.parametrize(("value", "other", "times"), [(6.0, 2.0, 3.0), (1.0, 4.0, 0.25)])
def test_a_ratio_says_how_many_times_the_other(value: float, other: float, times: float) -> None:
    assert ratio(value, other) == times
