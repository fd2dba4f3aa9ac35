"""Is a file that a scan has found still being written? Asked of the system, and not for longer than an instant."""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.descriptors import open_descriptors
from support.disk.disks import RefusingDisk
from support.disk.scanned import FAR, decisions, look
from support.disk.spools import AT_ONCE, Spool

from inboxd.fs.syscalls import Disk
from inboxd.intake.readiness import Ready, Wait, WaitTimes
from inboxd.intake.scan import DeniedEntry, ScannedEntry, scan


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


def test_a_file_that_is_open_for_writing_is_busy(spool: Spool) -> None:
    with spool.put(b"inbox/a").open("ab"):
        assert isinstance(decisions(spool)[b"a"], Wait)

    assert decisions(spool) == {b"a": Ready()}


def test_a_file_that_is_open_for_reading_is_not_busy(spool: Spool) -> None:
    with spool.put(b"inbox/a").open("rb"):
        assert decisions(spool) == {b"a": Ready()}


def test_the_lease_is_given_back_at_once(spool: Spool) -> None:
    place = spool.put(b"inbox/a")

    look(spool)

    with place.open("r+b") as file:
        assert fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_UNLCK


def test_a_file_that_we_may_not_open_may_be_busy(spool: Spool) -> None:
    changed = spool.put(b"inbox/a").stat().st_ctime
    disk = RefusingDisk("open_file", b"a", errno.EACCES)
    patience = WaitTimes(settle_seconds=0.0, unsure_seconds=5.0, empty_seconds=0.0)

    young, old = (look(spool, disk, changed + age, patience)[0] for age in (4.9, 5.1))

    assert isinstance(young.decision, Wait)
    assert old.decision == Ready()


def test_a_file_that_another_program_holds_a_lease_on_is_busy(spool: Spool) -> None:
    spool.put(b"inbox/a")

    found = decisions(spool, RefusingDisk("open_file", b"a", errno.EAGAIN))

    assert isinstance(found[b"a"], Wait)


def test_a_file_that_can_not_be_looked_at_does_not_hold_up_the_others(spool: Spool) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/b")

    told = look(spool, RefusingDisk("stat", b"a", errno.EIO))

    assert {type(entry): entry.path for entry in told} == {DeniedEntry: b"a", ScannedEntry: b"b"}


def test_a_scan_outlives_the_descriptors_of_the_turn_that_began_it(spool: Spool) -> None:
    for path in (b"a", b"x/b", b"x/y/c"):
        spool.put(b"inbox/" + path)
    with spool.folders() as folders:
        entries = scan(Disk(), folders.inbox, spool.inbox(), AT_ONCE, lambda: FAR)
        seen = [next(entries)]
    taken = [os.open("/", os.O_RDONLY) for _ in range(5)]  # whatever else opens files takes their numbers

    seen += entries

    for number in taken:
        os.close(number)
    assert {entry.path for entry in seen if isinstance(entry, ScannedEntry)} == {b"a", b"x/b", b"x/y/c"}


def test_a_file_too_young_is_not_even_opened(spool: Spool) -> None:
    class Unopenable(Disk):
        def open_file(self, at: int, name: bytes) -> int:
            raise AssertionError((at, name))

    changed = spool.put(b"inbox/a").stat().st_ctime

    young = look(
        spool, Unopenable(), now=changed, patience=WaitTimes(settle_seconds=1.0, unsure_seconds=1.0, empty_seconds=1.0)
    )

    assert isinstance(young[0].decision, Wait)


@pytest.mark.parametrize(("size", "ready"), [(0, False), (1, True)])
def test_an_empty_file_beside_its_download_waits(size: int, ready: bool, spool: Spool) -> None:
    spool.put(b"inbox/x/a.pdf", b"1" * size)
    spool.put(b"inbox/x/a.pdf.part")

    assert (decisions(spool)[b"x/a.pdf"] == Ready()) is ready


def test_no_descriptor_is_left_open_by_a_scan_that_is_given_up(spool: Spool) -> None:
    spool.put(b"inbox/x/a")
    open_before = open_descriptors()

    with spool.folders() as folders:
        entries: Iterator[object] = scan(Disk(), folders.inbox, spool.inbox(), AT_ONCE, lambda: FAR)
        next(entries)
        del entries

    assert open_descriptors() == open_before
