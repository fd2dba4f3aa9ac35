"""The chart of a day: for each of the last 24 hours a bar with the files done, and on it those that failed. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from inboxd.broker.counters import DONE, FAILED, HOUR_SECONDS, REFUSED
from inboxd.console.times import to_local

HOURS = 24
WIDTH, HEIGHT = 240.0, 48.0
_STEP = WIDTH / HOURS
_GAP = 2.0
_VISIBLE = 1.5
"""Minimum height of a part that is not 0."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour: its local time, its numbers of files, and the two parts of its bar, in the units of the view box."""

    label: str
    done: int
    failed: int
    x: float
    width: float
    done_y: float
    done_height: float
    failed_y: float
    failed_height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars of a day, the oldest first, the highest hour, and the day's sums."""

    bars: tuple[Bar, ...]
    highest: int
    done: int
    failed: int


def make_chart(hours: Mapping[int, Mapping[str, int]], now: float) -> Chart:
    """Return the chart of the 24 hours up to ``now``, given outcomes by hour (Unix time / 3600)."""
    current = int(now // HOUR_SECONDS)
    counts = [
        (hour, outcomes.get(DONE, 0), outcomes.get(FAILED, 0) + outcomes.get(REFUSED, 0))
        for hour in range(current - HOURS + 1, current + 1)
        for outcomes in (hours.get(hour, {}),)
    ]
    highest = max(done + failed for _, done, failed in counts)
    bars = tuple(_make_bar(index, *count, max(highest, 1)) for index, count in enumerate(counts))
    return Chart(bars, highest, sum(bar.done for bar in bars), sum(bar.failed for bar in bars))


def _make_bar(index: int, hour: int, done: int, failed: int, highest: int) -> Bar:
    done_height, failed_height = (max(HEIGHT * count / highest, _VISIBLE) if count else 0.0 for count in (done, failed))
    done_height = min(done_height, HEIGHT - failed_height)
    top = HEIGHT - done_height
    label = f"{to_local(hour * HOUR_SECONDS):%H:%M}"
    return Bar(
        label, done, failed, round(index * _STEP + _GAP / 2, 2), round(_STEP - _GAP, 2),
        round(top, 2), round(done_height, 2), round(top - failed_height, 2), round(failed_height, 2),
    )  # fmt: skip
