"""Is this file complete? Every rule, at its edge."""

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
    is_settled,
    refusal_reason,
)

CHANGED = 1_000_000.0
PATIENCE = WaitTimes(settle_seconds=0.5, unsure_seconds=2.0, empty_seconds=10.0)
GIB = 1024**3


def look(kind: FileKind = FileKind.FILE, size: int = 10, allocated: int = 4096, changed: float = CHANGED) -> Stat:
    nanos = int(changed * 1e9)
    return Stat(kind, size, allocated, 0, nanos, dev=1, ino=2, links=1, uid=3, mode=0o644)


def after(seconds: float, idle: WriterCheck = WriterCheck.FREE, patience: WaitTimes = PATIENCE, **what: object) -> Decision:
    return decide(look(**what), idle, CHANGED + seconds, patience)


def test_a_settled_file_that_nobody_writes_to_is_ready() -> None:
    assert after(0.5) == Ready()


def test_a_file_is_not_ready_a_moment_before_it_has_settled() -> None:
    decision = after(0.499)

    assert decision == Wait(CHANGED + 0.5, "settling: it changed 0.5 s ago")


def test_without_a_settle_time_a_file_is_ready_at_once() -> None:
    assert after(0.0, patience=WaitTimes(settle_seconds=0.0, unsure_seconds=0.0, empty_seconds=0.0)) == Ready()


def test_a_file_that_is_open_for_writing_is_looked_at_again_soon() -> None:
    assert after(100.0, WriterCheck.BUSY) == Wait(
        CHANGED + 100.0 + BUSY_RECHECK_SECONDS, "a program has it open for writing", is_certain=False
    )


def test_a_file_that_is_open_for_writing_is_never_ready_however_old_it_is() -> None:
    assert isinstance(after(1e6, WriterCheck.BUSY), Wait)


@pytest.mark.parametrize(("seconds", "ready"), [(0.5, False), (1.999, False), (2.0, True), (9.0, True)])
def test_when_the_system_can_not_tell_the_wait_is_longer(seconds: float, ready: bool) -> None:
    assert (after(seconds, WriterCheck.UNKNOWN) == Ready()) is ready


def test_waiting_because_nobody_can_tell_ends_when_it_says() -> None:
    decision = after(1.0, WriterCheck.UNKNOWN)

    assert decision == Wait(CHANGED + 2.0, "can't tell whether it is open; it changed 1.0 s ago")


@pytest.mark.parametrize("idle", [WriterCheck.FREE, WriterCheck.UNKNOWN])
@pytest.mark.parametrize(("seconds", "ready"), [(1.999, False), (2.0, True)])
def test_on_an_untrusted_mount_a_free_lease_is_worth_nothing(idle: WriterCheck, seconds: float, ready: bool) -> None:
    untrusted = dataclasses.replace(PATIENCE, trusts_leases=False)

    assert (after(seconds, idle, untrusted) == Ready()) is ready


def test_on_an_untrusted_mount_a_busy_lease_counts() -> None:
    untrusted = dataclasses.replace(PATIENCE, trusts_leases=False)

    assert isinstance(after(100.0, WriterCheck.BUSY, untrusted), Wait)


@pytest.mark.parametrize(("seconds", "ready"), [(0.5, False), (9.999, False), (10.0, True)])
def test_an_empty_file_gets_time_for_its_bytes(seconds: float, ready: bool) -> None:
    assert (after(seconds, size=0) == Ready()) is ready


def test_a_file_beside_its_own_download_is_not_taken() -> None:
    decision = decide(look(), WriterCheck.FREE, CHANGED + 100.0, PATIENCE, is_downloading=True)

    assert decision == Wait(CHANGED + 100.0 + BUSY_RECHECK_SECONDS, "a browser is still downloading it", is_certain=False)


@pytest.mark.parametrize("kind", [kind for kind in FileKind if kind is not FileKind.FILE], ids=str)
def test_what_is_no_file_is_refused_once_it_has_settled(kind: FileKind) -> None:
    assert isinstance(after(0.4, kind=kind), Wait)
    decision = after(0.5, kind=kind)

    assert isinstance(decision, Refuse)
    assert kind.value in decision.why


def test_a_file_a_little_ahead_of_the_clock_waits_and_does_not_claim_a_negative_age() -> None:
    decision = after(-CLOCK_SKEW_SECONDS)

    assert decision == Wait(CHANGED + 0.5, "settling: it changed 0.0 s ago")
    assert decide(look(), WriterCheck.FREE, decision.until, PATIENCE) == Ready()


def test_a_time_far_ahead_is_of_a_clock_that_was_set_back_and_holds_up_nothing() -> None:
    decision = after(-CLOCK_SKEW_SECONDS - 1.0)

    assert decision == Ready()
    assert is_settled(look(), CHANGED - CLOCK_SKEW_SECONDS - 1.0, PATIENCE)


def test_a_forged_modification_time_makes_no_file_older() -> None:
    forged = look()._replace(mtime_ns=0)

    assert isinstance(decide(forged, WriterCheck.FREE, CHANGED + 0.1, PATIENCE), Wait)


@given(
    seconds=st.floats(-1e5, 1e5),
    idle=st.sampled_from(WriterCheck),
    size=st.sampled_from([0, 1]),
    kind=st.sampled_from(FileKind),
    partial=st.booleans(),
    trusted=st.booleans(),
)
def test_whoever_waits_is_told_a_time_that_is_still_to_come(
    seconds: float, idle: WriterCheck, size: int, kind: FileKind, partial: bool, trusted: bool
) -> None:
    now = CHANGED + seconds
    patience = dataclasses.replace(PATIENCE, trusts_leases=trusted)

    decision = decide(look(kind=kind, size=size), idle, now, patience, is_downloading=partial)

    assert not isinstance(decision, Wait) or decision.until > now
    assert not isinstance(decision, Ignore)


@pytest.mark.parametrize(("seconds", "worth_asking"), [(0.499, False), (0.5, True)])
def test_a_file_is_only_asked_about_once_it_has_settled(seconds: float, worth_asking: bool) -> None:
    assert is_settled(look(), CHANGED + seconds, PATIENCE) is worth_asking
    assert not is_settled(look(kind=FileKind.FIFO), CHANGED + seconds, PATIENCE)


def test_a_plain_file_is_accepted() -> None:
    assert refusal_reason(look(), size_bytes_max=0) is None


@pytest.mark.parametrize("kind", [kind for kind in FileKind if kind is not FileKind.FILE], ids=str)
def test_what_is_no_file_is_refused_in_words(kind: FileKind) -> None:
    reason = refusal_reason(look(kind=kind), size_bytes_max=0)

    assert reason == f"it is a {kind}, not a file: drop the file itself"


@pytest.mark.parametrize(("size", "refused"), [(100, False), (101, True)])
def test_a_file_may_be_as_large_as_the_inbox_says(size: int, refused: bool) -> None:
    assert (refusal_reason(look(size=size), size_bytes_max=100) is not None) is refused


def test_the_refusal_of_a_large_file_names_both_sizes() -> None:
    reason = refusal_reason(look(size=101), size_bytes_max=100)

    assert reason == "it has 101 bytes, and this inbox takes files of at most 100 bytes"


@pytest.mark.parametrize(
    ("size", "allocated", "refused"),
    [(GIB, 0, False), (200 * GIB, 0, True), (200 * GIB, 2 * GIB - 1, True), (200 * GIB, 2 * GIB, False)],
)
def test_a_large_file_with_next_to_nothing_in_it_is_refused(size: int, allocated: int, refused: bool) -> None:
    assert (refusal_reason(look(size=size, allocated=allocated), size_bytes_max=0) is not None) is refused
