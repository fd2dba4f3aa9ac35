"""Which lines a terminal shows in a burst, and the live bar."""

import pytest

from inboxd.console.up.burst import (
    FAILURES_PER_SECOND,
    OTHERS_PER_SECOND,
    SHOWN_PER_SECOND,
    Burst,
    Kind,
    Pace,
    describe_progress,
)


def paced() -> Pace:
    pace = Pace()
    pace.next_window(100.0)
    return pace


def test_as_many_files_as_a_person_can_read_are_all_shown() -> None:
    pace = paced()

    assert all(pace.admit(Kind.DONE, 100.5) for _ in range(SHOWN_PER_SECOND))
    assert (pace.burst, pace.next_window(101.0)) == (None, [])


def test_more_files_begin_a_burst_in_which_no_done_file_is_shown() -> None:
    pace = paced()

    shown = [pace.admit(Kind.DONE, 100.5) for _ in range(500)]

    assert (sum(shown), pace.burst and pace.burst.done) == (SHOWN_PER_SECOND, 500)


@pytest.mark.parametrize(("kind", "limit"), [(Kind.FAILED, FAILURES_PER_SECOND), (Kind.OTHER, OTHERS_PER_SECOND)])
def test_a_few_failures_and_warnings_are_shown_each_second_and_the_others_counted(kind: Kind, limit: int) -> None:
    pace = paced()
    for _ in range(100):
        pace.admit(Kind.DONE, 100.5)
    pace.next_window(101.0)

    shown = [pace.admit(kind, 101.5) for _ in range(1000)]

    assert sum(shown) == limit
    assert pace.next_window(102.0)[0].startswith(f"… and {1000 - limit:,} more")


def test_the_summary_counts_all_files_since_the_burst_began_and_comes_when_it_is_over() -> None:
    pace = paced()
    for _ in range(300):
        pace.admit(Kind.DONE, 100.5)
    first = pace.next_window(101.0)
    pace.count_done(690, 101.9)
    for _ in range(10):
        pace.admit(Kind.FAILED, 102.0)
    second = pace.next_window(102.0)

    third = pace.next_window(103.0)

    assert (first, second) == ([], ["… and 7 more failed"])
    assert (third, pace.burst) == (["990 done, 10 failed in 2.0 s (500 files/s)"], None)


def test_a_stop_in_a_burst_ends_it_with_its_summary() -> None:
    pace = paced()
    for _ in range(100):
        pace.admit(Kind.DONE, 101.0)

    assert pace.end() == ["100 done in 1.0 s (100 files/s)"]


@pytest.mark.parametrize("width", [20, 40, 59, 79, 199])
def test_the_bar_fits_the_width(width: int) -> None:
    burst = Burst(0.0, 10.0, done=4000, failed=12)

    text = describe_progress(burst, 2000, 30_000, width)

    assert len(text) <= width
    assert text.startswith("4,000 done")
    assert ("2,000 in flight, 30,000 waiting  401/s  1:20 left" in text) is (width >= 79)
    assert ("━" in text) is (width == 199)


def test_hours_are_left() -> None:
    assert "2:46:40 left" in describe_progress(Burst(0.0, 100.0, done=100), 0, 10_000, 100)
