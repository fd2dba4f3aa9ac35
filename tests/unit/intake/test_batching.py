"""How many files share a parcel, and when it is sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.intake.batching import (
    PARCELS_IN_FLIGHT_MAX,
    PARCELS_SENT_AT_ONCE,
    UNKNOWN_RATE_PARCELS_MAX,
    Candidate,
    files_per_parcel,
    may_send,
    next_batch,
)

sizes = st.lists(st.integers(0, 100), max_size=30)


def candidates(*sizes: int) -> list[Candidate]:
    return [Candidate(b"%d" % number, size) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("seconds_per_file", "files"),
    [(None, 1), (1.0, 1), (0.1, 1), (0.05, 2), (0.01, 10), (0.001, 50), (0.0, 50), (1e-12, 50), (1e9, 1)],
)
def test_a_parcel_holds_a_tenth_of_a_second_of_work(seconds_per_file: float | None, files: int) -> None:
    assert files_per_parcel(seconds_per_file, files_max=50, packing_seconds_per_file=0.0) == files


@pytest.mark.parametrize(("packing_seconds", "files"), [(None, 1), (0.0, 50), (0.01, 50), (0.02, 25), (0.5, 1), (9.0, 1)])
def test_a_parcel_has_no_more_files_than_are_packed_in_half_a_second(packing_seconds: float | None, files: int) -> None:
    assert files_per_parcel(0.001, 50, packing_seconds) == files


def test_a_batch_has_no_more_files_than_allowed() -> None:
    ready = candidates(1, 1, 1)

    assert next_batch(ready, files_max=2, bytes_max=100) == ready[:2]


def test_a_batch_has_no_more_bytes_than_allowed() -> None:
    ready = candidates(60, 40, 1)

    assert next_batch(ready, files_max=9, bytes_max=100) == ready[:2]


def test_a_file_above_the_limit_is_a_batch_of_its_own() -> None:
    ready = candidates(101, 1)

    assert next_batch(ready, files_max=9, bytes_max=100) == ready[:1]


def test_without_ready_files_the_batch_is_empty() -> None:
    assert next_batch([], files_max=9, bytes_max=100) == []


@given(sizes=sizes, files_max=st.integers(1, 10), bytes_max=st.integers(1, 200))
def test_successive_batches_contain_every_file_once_and_in_order(sizes: list[int], files_max: int, bytes_max: int) -> None:
    ready = candidates(*sizes)
    batched: list[Candidate] = []

    while rest := ready[len(batched) :]:
        batch = next_batch(rest, files_max, bytes_max)
        assert 1 <= len(batch) <= files_max
        assert len(batch) == 1 or sum(file.size for file in batch) <= bytes_max
        batched += batch

    assert batched == ready


@pytest.mark.parametrize(
    ("in_flight", "is_sent"), [(0, True), (UNKNOWN_RATE_PARCELS_MAX - 1, True), (UNKNOWN_RATE_PARCELS_MAX, False)]
)
def test_a_limited_number_of_parcels_is_sent_before_the_speed_is_known(in_flight: int, is_sent: bool) -> None:
    assert may_send(1, 1, None, in_flight) is is_sent


@pytest.mark.parametrize(("in_flight", "is_sent"), [(0, True), (PARCELS_SENT_AT_ONCE - 1, True), (PARCELS_SENT_AT_ONCE, False)])
def test_a_single_file_is_sent_at_once_while_few_parcels_are_in_flight(in_flight: int, is_sent: bool) -> None:
    assert may_send(1, 10, 0.01, in_flight) is is_sent


def test_the_required_fill_grows_with_the_parcels_in_flight() -> None:
    fewest = [next(files for files in range(1, 101) if may_send(files, 100, 0.001, in_flight)) for in_flight in range(8)]

    assert fewest == [1, 1, 25, 50, 75, 100, 100, 100]
    assert fewest[PARCELS_IN_FLIGHT_MAX] == 100


@pytest.mark.parametrize("in_flight", [0, 3, 1000])
def test_files_of_a_slow_handler_never_wait_for_more_files(in_flight: int) -> None:
    assert may_send(1, files_per_parcel(0.2, 100, 0.0), 0.2, in_flight)


def test_a_full_parcel_is_always_sent() -> None:
    assert may_send(10, 10, 0.01, in_flight=1000)
