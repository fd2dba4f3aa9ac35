"""A scan's check for writers by a kernel lease, which is released at once."""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.descriptors import open_descriptors
from support.disk.disks import RefusingDisk
from support.disk.scanned import FAR_FUTURE, decisions, look
from support.disk.spools import NO_WAITS, Spool

from inboxd.fs.syscalls import Disk
from inboxd.intake.readiness import Ignore, Ready, Refuse, Wait, WaitTimes
from inboxd.intake.scan import NAMES_PER_STEP, DeniedEntry, ListedNames, ScannedEntry, scan
from inboxd.spool.failure import Failure, FailureKind


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def test_a_file_that_is_open_for_writing_is_busy(spool: Spool) -> None:
    with spool.put(b"inbox/a").open("ab"):
        assert isinstance(decisions(spool)[b"a"], Wait)

    assert decisions(spool) == {b"a": Ready()}


def test_a_file_that_is_open_for_reading_is_not_busy(spool: Spool) -> None:
    with spool.put(b"inbox/a").open("rb"):
        assert decisions(spool) == {b"a": Ready()}


def test_the_kernel_lease_is_released_at_once(spool: Spool) -> None:
    place = spool.put(b"inbox/a")

    look(spool)

    with place.open("r+b") as file:
        assert fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_UNLCK


def test_a_file_that_can_not_be_opened_must_be_unchanged_for_longer(spool: Spool) -> None:
    changed = spool.put(b"inbox/a").stat().st_ctime
    disk = RefusingDisk("open_file", b"a", errno.EACCES)
    waits = WaitTimes(settle_seconds=0.0, unsure_seconds=5.0, empty_seconds=0.0)

    young, old = (look(spool, disk, changed + age, waits)[0] for age in (4.9, 5.1))

    assert isinstance(young.decision, Wait)
    assert old.decision == Ready()


def test_a_file_with_a_kernel_lease_of_another_program_is_busy(spool: Spool) -> None:
    spool.put(b"inbox/a")

    found = decisions(spool, RefusingDisk("open_file", b"a", errno.EAGAIN))

    assert isinstance(found[b"a"], Wait)


def test_a_file_whose_stat_fails_does_not_end_the_scan(spool: Spool) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/b")

    entries = look(spool, RefusingDisk("stat", b"a", errno.EIO))

    assert {type(entry): entry.path for entry in entries} == {DeniedEntry: b"a", ScannedEntry: b"b"}


def test_a_scan_continues_after_the_descriptors_of_its_first_turn_are_closed(spool: Spool) -> None:
    for path in (b"a", b"x/b", b"x/y/c"):
        spool.put(b"inbox/" + path)
    with spool.folders() as folders:
        entries = scan(Disk(), folders.inbox, spool.inbox(), NO_WAITS, lambda: FAR_FUTURE)
        seen = [next(entries)]
    reused = [os.open("/", os.O_RDONLY) for _ in range(5)]  # the numbers of the closed descriptors

    seen += entries

    for descriptor in reused:
        os.close(descriptor)
    assert {entry.path for entry in seen if isinstance(entry, ScannedEntry)} == {b"a", b"x/b", b"x/y/c"}


def test_a_file_that_has_not_settled_is_not_opened(spool: Spool) -> None:
    class UnopenableDisk(Disk):
        def open_file(self, at: int, name: bytes) -> int:
            raise AssertionError((at, name))

    changed = spool.put(b"inbox/a").stat().st_ctime

    young = look(
        spool, UnopenableDisk(), now=changed, patience=WaitTimes(settle_seconds=1.0, unsure_seconds=1.0, empty_seconds=1.0)
    )

    assert isinstance(young[0].decision, Wait)


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("marker", [b"a.pdf.part", b"a.pdf.aria2", b"a.pdf.ST", b"a.pdf.lock"])
def test_a_file_waits_while_another_name_marks_it_as_incomplete(marker: bytes, size: int, spool: Spool) -> None:
    """aria2 allocates the whole file first, and axel writes several parts of it at once."""
    spool.put(b"inbox/x/a.pdf", b"1" * size)
    spool.put(b"inbox/x/b.pdf")
    control = spool.put(b"inbox/x/" + marker)

    before = decisions(spool)
    control.unlink()

    assert isinstance(before[b"x/a.pdf"], Wait)
    assert before[b"x/b.pdf"] == Ready()
    assert decisions(spool)[b"x/a.pdf"] == Ready()


@pytest.mark.parametrize("name", [b"poetry.lock", b"x/program.ST"])
def test_a_name_like_a_control_files_is_accepted_without_the_file_that_it_would_belong_to(name: bytes, spool: Spool) -> None:
    spool.put(b"inbox/" + name)
    spool.put(b"inbox/a.iso")

    assert decisions(spool)[name] == Ready()
    assert isinstance(decisions(spool, exclude=("*.lock", "*.st"))[name], Ignore)


@pytest.mark.parametrize(("size", "is_ready"), [(0, False), (1, True)])
def test_an_empty_file_waits_while_davfs_has_its_content_elsewhere(size: int, is_ready: bool, spool: Spool) -> None:
    spool.put(b"inbox/a.docx", b"1" * size)
    spool.put(b"inbox/.davfs.tmp1a2b3c")

    assert (decisions(spool)[b"a.docx"] == Ready()) is is_ready


@pytest.mark.parametrize(("mtime_ns", "is_ready"), [(0, True), (1, False), (999_999_999, False), (10**9, True)])
def test_a_file_that_rsync_has_left_half_transferred_waits(mtime_ns: int, is_ready: bool, spool: Spool) -> None:
    os.utime(spool.put(b"inbox/a.pdf"), ns=(mtime_ns, mtime_ns))

    assert (decisions(spool)[b"a.pdf"] == Ready()) is is_ready


def test_a_shortcut_is_refused(spool: Spool) -> None:
    spool.put(b"inbox/Invoice.pdf.lnk")

    assert decisions(spool)[b"Invoice.pdf.lnk"] == Refuse(
        Failure(FailureKind.SHORTCUT, "a shortcut (Windows): drop the file itself")
    )


def test_a_scan_can_be_interrupted_while_it_reads_the_names_of_a_large_folder(spool: Spool) -> None:
    for number in range(2 * NAMES_PER_STEP):
        spool.put(b"inbox/%d" % number)

    assert [type(entry) for entry in look(spool)][:3] == [ListedNames, ListedNames, ScannedEntry]


def test_an_abandoned_scan_closes_its_descriptors(spool: Spool) -> None:
    spool.put(b"inbox/x/a")
    open_before = open_descriptors()

    with spool.folders() as folders:
        entries: Iterator[object] = scan(Disk(), folders.inbox, spool.inbox(), NO_WAITS, lambda: FAR_FUTURE)
        next(entries)
        del entries

    assert open_descriptors() == open_before
