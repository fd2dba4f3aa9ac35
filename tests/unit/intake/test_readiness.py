"""When a file is complete: every rule, at its limits."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.fs.syscalls import FileKind, Stat, WriterCheck
from inboxd.intake.readiness import (
    BUSY_RECHECK_SECONDS,
    CLOCK_SKEW_SECONDS,
    Decision,
    Ignore,
    Ready,
    Refuse,
    Wait,
    WaitTimes,
    decide,
    find_refusal,
    is_settled,
    looks_sparse,
)
from inboxd.spool.failure import Failure, FailureKind

CHANGED = 1_000_000.0
WAITS = WaitTimes(settle_seconds=0.5, unsure_seconds=2.0, empty_seconds=10.0)
GIB = 1024**3


def make_stat(kind: FileKind = FileKind.FILE, size: int = 10, allocated: int = 4096, changed: float = CHANGED) -> Stat:
    ctime_ns = int(changed * 1e9)
    return Stat(kind, size, allocated, 0, ctime_ns, dev=1, ino=2, links=1, uid=3, mode=0o644)


def decide_after(age: float, writers: WriterCheck = WriterCheck.FREE, waits: WaitTimes = WAITS, **stat: object) -> Decision:
    return decide(make_stat(**stat), writers, CHANGED + age, waits)


def test_a_settled_file_without_writers_is_ready() -> None:
    assert decide_after(0.5) == Ready()


def test_a_file_is_not_ready_before_it_has_settled() -> None:
    decision = decide_after(0.499)

    assert decision == Wait(CHANGED + 0.5, "settling: changed 0.5 s ago")


def test_without_a_settle_time_a_file_is_ready_at_once() -> None:
    assert decide_after(0.0, waits=WaitTimes(settle_seconds=0.0, unsure_seconds=0.0, empty_seconds=0.0)) == Ready()


def test_a_file_that_is_open_for_writing_is_checked_again_soon() -> None:
    assert decide_after(100.0, WriterCheck.BUSY) == Wait(
        CHANGED + 100.0 + BUSY_RECHECK_SECONDS, "a program has the file open for writing", is_certain=False
    )


def test_an_old_file_that_is_open_for_writing_is_not_ready() -> None:
    assert isinstance(decide_after(1e6, WriterCheck.BUSY), Wait)


@pytest.mark.parametrize(("seconds", "is_ready"), [(0.5, False), (1.999, False), (2.0, True), (9.0, True)])
def test_a_file_whose_writers_are_unknown_must_be_unchanged_for_longer(seconds: float, is_ready: bool) -> None:
    assert (decide_after(seconds, WriterCheck.UNKNOWN) == Ready()) is is_ready


def test_the_wait_for_a_file_whose_writers_are_unknown_has_an_end() -> None:
    decision = decide_after(1.0, WriterCheck.UNKNOWN)

    assert decision == Wait(CHANGED + 2.0, "a writer may be undetected: changed 1.0 s ago")


@pytest.mark.parametrize("writers", [WriterCheck.FREE, WriterCheck.UNKNOWN])
@pytest.mark.parametrize(("seconds", "is_ready"), [(1.999, False), (2.0, True)])
def test_on_an_untrusted_mount_a_free_lease_counts_as_unknown(writers: WriterCheck, seconds: float, is_ready: bool) -> None:
    untrusted = dataclasses.replace(WAITS, trusts_leases=False)

    assert (decide_after(seconds, writers, untrusted) == Ready()) is is_ready


def test_on_an_untrusted_mount_a_busy_lease_is_believed() -> None:
    untrusted = dataclasses.replace(WAITS, trusts_leases=False)

    assert isinstance(decide_after(100.0, WriterCheck.BUSY, untrusted), Wait)


@pytest.mark.parametrize(("seconds", "is_ready"), [(0.5, False), (9.999, False), (10.0, True)])
def test_an_empty_file_must_be_unchanged_for_longer(seconds: float, is_ready: bool) -> None:
    assert (decide_after(seconds, size=0) == Ready()) is is_ready


def test_a_file_that_another_name_marks_as_incomplete_is_not_ready() -> None:
    decision = decide(make_stat(), WriterCheck.FREE, CHANGED + 100.0, WAITS, is_incomplete=True)

    assert decision == Wait(CHANGED + 100.0 + BUSY_RECHECK_SECONDS, "a transfer of the file is in progress", is_certain=False)


@pytest.mark.parametrize("kind", [kind for kind in FileKind if kind is not FileKind.FILE], ids=str)
def test_an_entry_that_is_not_a_regular_file_is_refused_once_it_has_settled(kind: FileKind) -> None:
    assert isinstance(decide_after(0.4, kind=kind), Wait)
    decision = decide_after(0.5, kind=kind)

    assert isinstance(decision, Refuse)
    assert kind.value in decision.failure.reason


def test_a_ctime_slightly_in_the_future_waits_and_has_no_negative_age() -> None:
    decision = decide_after(-CLOCK_SKEW_SECONDS)

    assert decision == Wait(CHANGED + 0.5, "settling: changed 0.0 s ago")
    assert decide(make_stat(), WriterCheck.FREE, decision.until, WAITS) == Ready()


def test_a_ctime_far_in_the_future_is_ignored_because_the_clock_was_set_back() -> None:
    decision = decide_after(-CLOCK_SKEW_SECONDS - 1.0)

    assert decision == Ready()
    assert is_settled(make_stat(), CHANGED - CLOCK_SKEW_SECONDS - 1.0, WAITS)


def test_a_changed_mtime_does_not_make_a_file_older() -> None:
    forged = make_stat()._replace(mtime_ns=0)

    assert isinstance(decide(forged, WriterCheck.FREE, CHANGED + 0.1, WAITS), Wait)


@given(
    seconds=st.floats(-1e5, 1e5),
    writers=st.sampled_from(WriterCheck),
    size=st.sampled_from([0, 1]),
    kind=st.sampled_from(FileKind),
    is_incomplete=st.booleans(),
    trusts_leases=st.booleans(),
)
def test_every_wait_ends_in_the_future(
    seconds: float, writers: WriterCheck, size: int, kind: FileKind, is_incomplete: bool, trusts_leases: bool
) -> None:
    now = CHANGED + seconds
    waits = dataclasses.replace(WAITS, trusts_leases=trusts_leases)

    decision = decide(make_stat(kind=kind, size=size), writers, now, waits, is_incomplete=is_incomplete)

    assert not isinstance(decision, Wait) or decision.until > now
    assert not isinstance(decision, Ignore)


@pytest.mark.parametrize(("seconds", "settled"), [(0.499, False), (0.5, True)])
def test_only_a_settled_regular_file_is_checked_for_writers(seconds: float, settled: bool) -> None:
    assert is_settled(make_stat(), CHANGED + seconds, WAITS) is settled
    assert not is_settled(make_stat(kind=FileKind.FIFO), CHANGED + seconds, WAITS)


def test_a_regular_file_is_accepted() -> None:
    assert find_refusal(make_stat(), size_bytes_max=0) is None


@pytest.mark.parametrize("kind", [kind for kind in FileKind if kind is not FileKind.FILE], ids=str)
def test_the_refusal_names_the_kind_of_an_entry_that_is_not_a_regular_file(kind: FileKind) -> None:
    failure = find_refusal(make_stat(kind=kind), size_bytes_max=0)

    assert failure is not None
    assert failure.kind is (FailureKind.LINK if kind is FileKind.LINK else FailureKind.NOT_A_FILE)
    assert failure.reason == f"not a regular file but a {kind}: drop the file itself"


@pytest.mark.parametrize(("size", "is_refused"), [(100, False), (101, True)])
def test_a_file_above_the_size_limit_is_refused(size: int, is_refused: bool) -> None:
    assert (find_refusal(make_stat(size=size), size_bytes_max=100) is not None) is is_refused


def test_the_refusal_of_a_large_file_names_both_sizes() -> None:
    failure = find_refusal(make_stat(size=101), size_bytes_max=100)

    assert failure == Failure(FailureKind.TOO_LARGE, "the file has 101 bytes: this inbox accepts at most 100 bytes")


@pytest.mark.parametrize(
    ("size", "allocated", "is_sparse"),
    [(GIB, 0, False), (200 * GIB, 0, True), (200 * GIB, 2 * GIB - 1, True), (200 * GIB, 2 * GIB, False)],
)
def test_a_large_file_with_few_blocks_looks_sparse(size: int, allocated: int, is_sparse: bool) -> None:
    assert looks_sparse(make_stat(size=size, allocated=allocated)) is is_sparse
