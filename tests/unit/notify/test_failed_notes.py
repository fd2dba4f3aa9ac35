"""Failures are counted by their notes, each once; folders that have not changed are not listed."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.disk.spools import Spool
from support.notify.failed import write_failed

from inboxd.errors import FolderUnavailable
from inboxd.fs.syscalls import Disk, Fd
from inboxd.notify.failed_notes import NEWEST_MAX, SETTLED_SECONDS, FailedNotes


class CountingDisk(Disk):
    """Counts the folders that are listed, and the files that are opened."""

    def __init__(self) -> None:
        self.listings = 0
        self.opened = 0

    def entries(self, at: Fd) -> Iterator[tuple[bytes, bool]]:
        self.listings += 1
        return super().entries(at)

    def open_file(self, at: Fd, name: bytes) -> Fd:
        self.opened += 1
        return super().open_file(at, name)


class Looks:
    """Failures of one inbox, and a clock that goes on by ``SETTLED_SECONDS`` with each look."""

    def __init__(self, spool: Spool, since_ns: int = 0) -> None:
        self.disk = CountingDisk()
        self.now = 100.0
        self.notes = FailedNotes(self.disk, spool.inbox(), since_ns, lambda: self.now)

    def look(self, times: int = 2) -> "Looks":
        for _ in range(times):
            self.now += SETTLED_SECONDS
            self.notes.look()
        return self

    def texts(self, after_ns: int = 0) -> list[tuple[bytes, str]]:
        return [(failure.path, failure.reason) for failure in self.notes.read(self.notes.newest(after_ns, 10))]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def test_failures_of_all_sub_folders_count(spool: Spool) -> None:
    write_failed(spool.root, b"a.pdf")
    write_failed(spool.root, b"x/y/b.pdf", "no number")

    looks = Looks(spool).look()

    assert looks.notes.count(0) == 2
    assert sorted(looks.texts()) == [(b"a.pdf", "no total"), (b"x/y/b.pdf", "no number")]


def test_what_was_told_does_not_count_again(spool: Spool) -> None:
    write_failed(spool.root, b"a.pdf")
    looks = Looks(spool).look()
    told = looks.notes.settled_ns
    write_failed(spool.root, b"b.pdf")

    looks.look(3)

    assert looks.notes.count(told) == 1
    assert looks.texts(told) == [(b"b.pdf", "no total")]


def test_a_failure_counts_only_once_nothing_can_precede_it(spool: Spool) -> None:
    write_failed(spool.root, b"a.pdf")
    looks = Looks(spool)

    looks.notes.look()
    looks.now += SETTLED_SECONDS / 2
    looks.notes.look()
    assert looks.notes.count(0) == 0

    looks.now += SETTLED_SECONDS / 2
    looks.notes.look()
    assert looks.notes.count(0) == 1


def test_a_folder_that_has_not_changed_is_not_listed_again(spool: Spool) -> None:
    for number in range(20):
        write_failed(spool.root, b"x/%d.pdf" % number)
    looks = Looks(spool).look(4)
    looks.disk.listings = looks.disk.opened = 0

    looks.look(5)
    assert (looks.disk.listings, looks.disk.opened) == (0, 0)

    write_failed(spool.root, b"x/new.pdf")
    looks.look()
    assert looks.notes.count(0) == 21
    assert looks.disk.opened == 1, "only the new note was read"


def test_a_file_that_is_taken_out_of_failed_no_longer_counts(spool: Spool) -> None:
    write_failed(spool.root, b"a.pdf")
    write_failed(spool.root, b"b.pdf")
    looks = Looks(spool).look()

    (spool.root / "failed/a.pdf").unlink()
    (spool.root / "failed/a.pdf.error.txt").unlink()
    looks.look()

    assert looks.texts() == [(b"b.pdf", "no total")]


def test_only_notes_of_dropped_files_count(spool: Spool) -> None:
    write_failed(spool.root, b"dropped.error.txt")  # a dropped file with such a name, and its note
    write_failed(spool.root, b"left.tmp", is_output=True)
    spool.put(b"failed/by-hand.error.txt", b"no note of inboxd's")
    spool.put(b"failed/.inboxd-0123456789abcdef.note", b"unfinished")

    looks = Looks(spool).look(4)

    assert looks.texts() == [(b"dropped.error.txt", "no total")]
    assert looks.notes.count(0) == 1


def test_a_change_of_the_owner_is_no_failure(spool: Spool) -> None:
    write_failed(spool.root, b"old.pdf")
    note = spool.root / "failed/old.pdf.error.txt"
    os.utime(note, (time.time() - 90_000, time.time() - 90_000))
    since = time.time_ns() - 3600 * 10**9

    note.chmod(0o600)  # sets the ctime

    assert Looks(spool, since).look().notes.count(since) == 0


def test_of_many_failures_the_newest_are_named_and_all_count(spool: Spool) -> None:
    for number in range(50):
        write_failed(spool.root, b"%02d.pdf" % number)
    newest = spool.root / "failed/07.pdf.error.txt"
    newest.rename(newest.with_name("moved"))
    newest.with_name("moved").rename(newest)

    looks = Looks(spool).look()

    assert looks.notes.count(0) == 50
    assert len(looks.notes.newest(0, 100)) == NEWEST_MAX
    assert looks.texts()[0][0] == b"07.pdf"


def test_a_missing_folder_is_an_error_and_not_empty(spool: Spool) -> None:
    looks = Looks(spool).look()
    (spool.root / "failed").rename(spool.root / "gone")

    with pytest.raises(FolderUnavailable):
        looks.look()
