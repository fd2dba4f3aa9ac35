"""Counting the files of an inbox."""

import os
import time
from pathlib import Path

import pytest
from support.disk.spools import Spool

from inboxd.errors import FolderUnavailable
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk
from inboxd.monitoring.file_counts import FileCounts, count_files
from inboxd.spool.error_note import SUFFIX


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path)


def census(spool: Spool, **rules: object) -> FileCounts:
    return count_files(Disk(), spool.inbox(**rules))


def test_an_empty_inbox_has_nothing_to_count(spool: Spool) -> None:
    assert census(spool) == FileCounts(waiting=0, in_flight=0, done=0, failed=0, oldest_waiting_seconds=None)


def test_files_are_counted_where_they_lie_and_in_sub_folders_too(spool: Spool) -> None:
    for path in (b"inbox/a", b"inbox/x/b", b"inbox/x/y/\xff\n", b"done/a", b"done/x/y/b", b"failed/x/a"):
        spool.put(path)
    spool.claimed(b"a", b"x/b")
    spool.claimed(b"a")

    counted = census(spool)

    assert (counted.waiting, counted.in_flight, counted.done, counted.failed) == (3, 3, 2, 1)


def test_empty_sub_folders_are_no_files(spool: Spool) -> None:
    for top in ("inbox", "done", "failed"):
        (spool.root / top / "x" / "y").mkdir(parents=True)

    assert census(spool) == FileCounts(0, 0, 0, 0, None)


@pytest.mark.parametrize("name", [b".hidden", b"a.part", b"~$a.docx", b"a.tmp", b"x/a.crdownload", b"Thumbs.db"])
def test_a_temporary_name_does_not_wait(spool: Spool, name: bytes) -> None:
    spool.put(b"inbox/" + name)

    assert census(spool).waiting == 0


def test_what_the_rules_leave_where_it_is_does_not_wait(spool: Spool) -> None:
    for name in (b"a.pdf", b"b.pdf", b"c.txt"):
        spool.put(b"inbox/" + name)

    assert census(spool, include=("*.pdf",), exclude=("b*",)).waiting == 1


def test_what_lies_in_hidden_sub_folders_does_not_wait(spool: Spool) -> None:
    for path in (b"inbox/.sync/a", b"inbox/@eaDir/a", b"inbox/x/.git/a"):
        spool.put(path)

    assert census(spool).waiting == 0


def test_what_lies_in_sub_folders_does_not_wait_when_they_are_not_looked_into(spool: Spool) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/x/b")

    assert census(spool, recursive=False).waiting == 1


def test_our_own_unfinished_files_are_neither_done_nor_failed(spool: Spool) -> None:
    for top in (b"done/", b"failed/", b"done/x/", b"failed/x/"):
        spool.put(top + TEMP_PREFIX + b"a")

    assert (census(spool).done, census(spool).failed) == (0, 0)


def test_notes_are_no_failed_files(spool: Spool) -> None:
    for name in (b"failed/a", b"failed/x/b"):
        spool.put(name)
        spool.put(name + SUFFIX)

    assert census(spool).failed == 2


def test_what_ends_like_a_note_counts_anywhere_else(spool: Spool) -> None:
    spool.put(b"inbox/a" + SUFFIX)
    spool.put(b"done/a" + SUFFIX)

    assert (census(spool).waiting, census(spool).done) == (1, 1)


def test_what_is_no_parcel_is_not_in_flight(spool: Spool) -> None:
    spool.put(b"claimed/stray")
    spool.put(b"claimed/folder/a")

    assert census(spool).in_flight == 0


def test_a_link_is_counted_and_not_followed(spool: Spool) -> None:
    outside = spool.root / "outside"
    outside.mkdir()
    (outside / "a").touch()
    (outside / "b").touch()
    (spool.root / "done" / "link").symlink_to(outside)

    assert census(spool).done == 1


def test_the_oldest_is_the_one_that_lies_here_longest(spool: Spool) -> None:
    first = spool.put(b"inbox/x/first").stat().st_ctime
    second = spool.put(b"inbox/second")
    os.utime(second, (0, 0))  # the content's age is not the wait's

    before = time.time()
    oldest = census(spool).oldest_waiting_seconds

    assert oldest is not None
    assert before - first <= oldest + 0.001
    assert oldest < 60


def test_the_oldest_files_are_named(spool: Spool) -> None:
    first = spool.put(b"inbox/x/first").stat().st_ctime_ns
    while spool.put(b"inbox/second").stat().st_ctime_ns == first:
        pass  # the clock of file systems ticks a few hundred times a second
    spool.put(b"claimed/%012x%016x/y/held" % (1000, 7))
    spool.put(b"claimed/%012x%016x/later" % (2000, 7))

    counted = census(spool)

    assert (counted.oldest_waiting, counted.oldest_claimed) == (b"x/first", b"y/held")


def test_a_temporary_name_is_never_the_oldest(spool: Spool) -> None:
    spool.put(b"inbox/a.part")

    assert census(spool).oldest_waiting_seconds is None


@pytest.mark.parametrize("top", ["inbox", "claimed", "done", "failed"])
def test_a_missing_folder_is_unknown_and_not_empty(spool: Spool, top: str) -> None:
    (spool.root / top).rmdir()

    with pytest.raises(FolderUnavailable, match=top):
        census(spool)
