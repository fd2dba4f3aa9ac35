"""Counting the files of an inbox by folder."""

import os
import time
from pathlib import Path

import pytest
from support.disk.spools import Spool

from inboxd.errors import FolderUnavailable
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk
from inboxd.monitoring.file_counts import FileCounts, Untaken, count_files
from inboxd.spool.error_note import SUFFIX, format_note
from inboxd.spool.requeue import list_failed_files


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path)


def count(spool: Spool, **rules: object) -> FileCounts:
    return count_files(Disk(), spool.inbox(**rules))


def test_an_empty_inbox_has_zero_counts(spool: Spool) -> None:
    assert count(spool) == FileCounts(waiting=0, in_flight=0, done=0, failed=0, oldest_waiting_seconds=None)


def test_files_are_counted_by_folder_and_in_sub_folders(spool: Spool) -> None:
    for path in (b"inbox/a", b"inbox/x/b", b"inbox/x/y/\xff\n", b"done/a", b"done/x/y/b", b"failed/x/a"):
        spool.put(path)
    spool.claimed(b"a", b"x/b")
    spool.claimed(b"a")

    counts = count(spool)

    assert (counts.waiting, counts.in_flight, counts.done, counts.failed) == (3, 3, 2, 1)


def test_empty_sub_folders_are_not_counted(spool: Spool) -> None:
    for top in ("inbox", "done", "failed"):
        (spool.root / top / "x" / "y").mkdir(parents=True)

    assert count(spool) == FileCounts(0, 0, 0, 0, None)


@pytest.mark.parametrize("name", [b".hidden", b"a.part", b"~$a.docx", b"a.tmp", b"x/a.crdownload", b"Thumbs.db"])
def test_a_file_with_a_temporary_name_is_not_counted_as_waiting(spool: Spool, name: bytes) -> None:
    spool.put(b"inbox/" + name)

    assert count(spool).waiting == 0


def test_a_file_that_the_rules_ignore_is_not_counted_as_waiting(spool: Spool) -> None:
    for name in (b"a.pdf", b"b.pdf", b"c.txt"):
        spool.put(b"inbox/" + name)

    assert count(spool, include=("*.pdf",), exclude=("b*",)).waiting == 1


def test_a_file_in_a_hidden_sub_folder_is_not_counted_as_waiting(spool: Spool) -> None:
    for path in (b"inbox/.sync/a", b"inbox/@eaDir/a", b"inbox/x/.git/a"):
        spool.put(path)

    assert count(spool).waiting == 0


def test_without_recursion_files_in_sub_folders_are_not_counted_as_waiting(spool: Spool) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/x/b")

    assert count(spool, recursive=False).waiting == 1


def test_temporary_files_of_inboxd_are_neither_done_nor_failed(spool: Spool) -> None:
    for top in (b"done/", b"failed/", b"done/x/", b"failed/x/"):
        spool.put(top + TEMP_PREFIX + b"a")

    assert (count(spool).done, count(spool).failed) == (0, 0)


def test_error_notes_are_not_counted_as_failed(spool: Spool) -> None:
    for name in (b"failed/a", b"failed/x/b"):
        spool.put(name)
        spool.put(name + SUFFIX, format_note(name, "why", inbox="drop", parcel="0" * 28, attempts=1, failed_at=0.0))

    assert count(spool).failed == 2


def test_a_dropped_file_that_is_named_like_a_note_is_counted_as_retry_counts_it(spool: Spool) -> None:
    spool.put(b"failed/a" + SUFFIX, b"a user's own report")
    spool.put(b"failed/a" + SUFFIX + SUFFIX, format_note(b"a", "why", inbox="drop", parcel="0" * 28, attempts=1, failed_at=0.0))
    with spool.folders() as folders:
        listed = list(list_failed_files(Disk(), folders))

    assert count(spool).failed == len(listed) == 1


def test_files_named_like_error_notes_are_counted_in_other_folders(spool: Spool) -> None:
    spool.put(b"inbox/a" + SUFFIX)
    spool.put(b"done/a" + SUFFIX)

    assert (count(spool).waiting, count(spool).done) == (1, 1)


def test_entries_that_are_not_parcels_are_not_counted_as_in_flight(spool: Spool) -> None:
    spool.put(b"claimed/stray")
    spool.put(b"claimed/folder/a")

    assert count(spool).in_flight == 0


def test_a_symlink_is_counted_and_not_followed(spool: Spool) -> None:
    outside = spool.root / "outside"
    outside.mkdir()
    (outside / "a").touch()
    (outside / "b").touch()
    (spool.root / "done" / "link").symlink_to(outside)

    assert count(spool).done == 1


def test_the_age_of_the_oldest_file_is_since_its_drop(spool: Spool) -> None:
    first = spool.put(b"inbox/x/first").stat().st_ctime
    second = spool.put(b"inbox/second")
    os.utime(second, (0, 0))  # an old modification time does not count

    before = time.time()
    oldest = count(spool).oldest_waiting_seconds

    assert oldest is not None
    assert before - first <= oldest + 0.001
    assert oldest < 60


def test_the_paths_of_the_oldest_files_are_returned(spool: Spool) -> None:
    first = spool.put(b"inbox/x/first").stat().st_ctime_ns
    while spool.put(b"inbox/second").stat().st_ctime_ns == first:
        pass  # file systems' clocks tick a few hundred times per second
    spool.put(b"claimed/%012x%016x/y/first" % (1000, 7))
    spool.put(b"claimed/%012x%016x/later" % (2000, 7))

    counts = count(spool)

    assert (counts.oldest_waiting, counts.oldest_claimed) == (b"x/first", b"y/first")


def test_a_file_with_a_temporary_name_is_never_the_oldest(spool: Spool) -> None:
    spool.put(b"inbox/a.part")

    assert count(spool).oldest_waiting_seconds is None


@pytest.mark.parametrize("top", ["inbox", "claimed", "done", "failed"])
def test_a_missing_folder_raises_and_does_not_count_as_empty(spool: Spool, top: str) -> None:
    (spool.root / top).rmdir()

    with pytest.raises(FolderUnavailable, match=top):
        count(spool)


# what nobody takes


def test_ignored_files_are_counted_with_the_rule_that_ignores_most(spool: Spool) -> None:
    for name in (b"SCAN.doc", b"x/b.doc", b".hidden", b"page.pdf", b"poetry.lock"):
        spool.put(b"inbox/" + name)

    counts = count(spool, include=["*.pdf", "*.lock"])

    assert counts.waiting == 2
    assert counts.ignored.files == 3
    assert "no pattern of include" in counts.ignored.reason
    assert counts.ignored.example in (b"SCAN.doc", b"x/b.doc")
    assert counts.ignored.oldest_seconds is not None
    assert counts.ignored.oldest_seconds < 60


def test_entries_beside_inbox_and_in_claimed_are_stray(spool: Spool) -> None:
    (spool.root / "dropped here.pdf").touch()
    (spool.root / "a folder").mkdir()
    (spool.root / ".hidden").touch()
    spool.put(b"claimed/by hand.pdf")
    spool.claimed(b"a")

    stray = count(spool).stray

    assert stray.files == 3
    assert stray.reason == "it is beside inbox/, not in it"
    assert stray.example in (b"dropped here.pdf", b"a folder")


def test_files_in_failed_without_a_note_are_counted(spool: Spool) -> None:
    spool.put(b"failed/by hand")
    spool.put(b"failed/a")
    spool.put(b"failed/a" + SUFFIX, format_note(b"a", "why", inbox="drop", parcel="0" * 28, attempts=1, failed_at=0.0))

    counts = count(spool)

    assert (counts.failed, counts.without_note.files, counts.without_note.example) == (2, 1, b"by hand")


def test_nothing_is_untaken_in_a_tidy_inbox(spool: Spool) -> None:
    spool.put(b"inbox/a")

    counts = count(spool)

    assert (counts.ignored, counts.stray, counts.without_note) == (Untaken(), Untaken(), Untaken())
