"""Putting failed files back: under the path that they were dropped with, nothing overwritten, and with their history."""

import time
from pathlib import Path

import pytest
from support.disk.disks import MovingDisk, RefusingDisk
from support.disk.failed_files import drop_and_fail, fail_one
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.spool.error_note import NOTE_BYTES_MAX, format_note, parse_note
from inboxd.spool.history import KEEP_SECONDS, history_name
from inboxd.spool.requeue import FailedFile, list_failed_files, requeue
from inboxd.spool.retention import delete_expired

HOSTILE = b'x\n{"event":"file_done"}\x1b[2J\xff.pdf'


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


def found(spool: Spool) -> list[FailedFile]:
    with spool.folders() as folders:
        return sorted(list_failed_files(Disk(), folders), key=lambda failure: failure.path)


def back(spool: Spool, path: bytes, disk: Disk | None = None) -> bytes | None:
    (failure,) = [failure for failure in found(spool) if failure.path == path]
    with spool.folders() as folders:
        return requeue(disk or Disk(), folders, failure)


@pytest.mark.parametrize("path", [b"a.pdf", b"x/y/a.pdf", HOSTILE, b"n" * 255, b"a.error.txt"])
def test_a_file_goes_back_to_where_it_was_dropped_and_leaves_nothing_to_be_seen(path: bytes, spool: Spool) -> None:
    drop_and_fail(spool, path)

    got = back(spool, path)

    assert got == path
    assert spool.files("inbox") == {path: path}
    assert [name for name in spool.files("failed") if not name.startswith(b".inboxd-")] == []


def test_a_file_whose_name_was_taken_in_failed_gets_its_own_back(spool: Spool) -> None:
    drop_and_fail(spool, b"x/a.pdf")
    drop_and_fail(spool, b"x/a.pdf")

    got = back(spool, b"x/a (2).pdf")

    assert got == b"x/a.pdf"
    assert b"x/a.pdf" in spool.files("failed")


def test_nothing_in_the_inbox_is_overwritten(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    spool.put(b"inbox/a.pdf", b"another")

    got = back(spool, b"a.pdf")

    assert got == b"a (2).pdf"
    assert spool.files("inbox") == {b"a.pdf": b"another", b"a (2).pdf": b"a.pdf"}


def test_a_later_note_tells_of_the_earlier_failures_the_oldest_first(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf", "no total", attempts=4)
    back(spool, b"a.pdf")
    fail_one(spool, b"a.pdf", "no customer", attempts=1)
    back(spool, b"a.pdf")

    fail_one(spool, b"a.pdf", "no date", attempts=2)

    told = parse_note(spool.notes()[b"a.pdf.error.txt"])
    assert told is not None
    assert (told.reason, told.attempts) == ("no date", 2)
    assert [line.partition(": ")[2] for line in told.earlier] == ["no total", "no customer"]
    assert "tried 4 times" in told.earlier[0]
    assert "tried once" in told.earlier[1]


def test_a_file_that_fails_again_within_a_minute_gets_its_own_name(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    back(spool, b"a.pdf")

    fail_one(spool, b"a.pdf")

    assert spool.files("failed").keys() == {b"a.pdf", b"a.pdf.error.txt"}


def test_a_history_is_not_told_of_another_file_under_the_same_name(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf", "no total")
    back(spool, b"a.pdf")
    spool.where(b"inbox/a.pdf").rename(spool.root / "taken away")

    drop_and_fail(spool, b"a.pdf", "no customer")

    assert "no total" not in spool.notes()[b"a.pdf.error.txt"].decode()


def test_a_file_that_was_mended_in_failed_keeps_its_history(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf", "no total")
    spool.put(b"failed/a.pdf", b"mended")
    back(spool, b"a.pdf")

    fail_one(spool, b"a.pdf", "no customer")

    assert "no total" in spool.notes()[b"a.pdf.error.txt"].decode()


def test_of_a_long_history_the_latest_failures_are_told(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf", "reason 0 " + "x" * 9000)
    for number in range(1, 15):
        back(spool, b"a.pdf")
        fail_one(spool, b"a.pdf", f"reason {number} " + "\u20ac" * 9000)

    told = parse_note(spool.notes()[b"a.pdf.error.txt"])

    assert told is not None
    assert [line.split("reason ")[1].split()[0] for line in told.earlier] == [str(number) for number in range(4, 14)]
    assert len(spool.notes()[b"a.pdf.error.txt"]) < NOTE_BYTES_MAX


def test_a_folder_that_was_refused_as_a_whole_is_put_back_as_a_whole(spool: Spool) -> None:
    spool.put(b"inbox/x/deep/a", b"A")
    spool.put(b"inbox/x/deep/b", b"B")
    fail_one(spool, b"x/deep", "too deep", attempts=0)

    assert [(failure.path, failure.is_folder) for failure in found(spool)] == [(b"x/deep", True)]
    back(spool, b"x/deep")

    assert spool.files("inbox") == {b"x/deep/a": b"A", b"x/deep/b": b"B"}


def test_a_file_without_a_note_can_be_put_back(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    spool.where(b"failed/a.pdf.error.txt").unlink()

    assert [(failure.path, failure.note) for failure in found(spool)] == [(b"a.pdf", None)]
    assert back(spool, b"a.pdf") == b"a.pdf"


def test_a_note_that_was_changed_to_another_path_is_not_believed(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    text = spool.notes()[b"a.pdf.error.txt"]
    spool.put(b"failed/a.pdf.error.txt", text.replace(b"inboxd path: a.pdf", b"inboxd path: b.pdf"))

    assert back(spool, b"a.pdf") == b"a.pdf"


def test_a_signed_path_that_leads_outside_is_not_believed(spool: Spool) -> None:
    spool.put(b"failed/a.pdf")
    outside = format_note(b"../b.pdf", "r", inbox="drop", parcel=f"{1:028x}", attempts=1, failed_at=0.0)
    spool.put(b"failed/a.pdf.error.txt", outside)

    assert back(spool, b"a.pdf") == b"a.pdf"


def test_notes_unfinished_files_histories_and_reserved_names_are_not_put_back(spool: Spool) -> None:
    drop_and_fail(spool, b"x/a.pdf")
    spool.put(b"failed/x/.inboxd-0123456789abcdef.note")
    spool.put(b"failed/.inboxd-0123456789abcdef.was")
    spool.where(b"failed/b").symlink_to("inboxd-reserved-1-2")

    assert [failure.path for failure in found(spool)] == [b"x/a.pdf"]


def test_who_comes_second_finds_nothing(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    (failure,) = found(spool)

    with spool.folders() as folders:
        first, second = (requeue(Disk(), folders, failure) for _ in range(2))

    assert (first, second) == (b"a.pdf", None)


def test_a_sub_folder_that_is_tidied_away_just_before_the_move_is_made_again(spool: Spool) -> None:
    drop_and_fail(spool, b"x/a.pdf")
    (spool.root / "inbox" / "x").rmdir()
    pruned: list[bytes] = []

    def prune(name: bytes) -> None:
        if name == b"a.pdf" and not pruned:
            pruned.append(name)
            (spool.root / "inbox" / "x").rmdir()

    got = back(spool, b"x/a.pdf", MovingDisk(prune))

    assert pruned
    assert got == b"x/a.pdf"


def test_a_note_that_another_file_has_got_meanwhile_stays(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    other = format_note(b"a.pdf", "another", inbox="drop", parcel=f"{7:028x}", attempts=1, failed_at=0.0)

    def take_the_name(name: bytes) -> None:
        if name == b"a.pdf":
            spool.put(b"failed/a.pdf.error.txt", other)

    back(spool, b"a.pdf", MovingDisk(take_the_name))

    assert spool.notes() == {b"a.pdf.error.txt": other}


def test_a_full_disk_keeps_a_file_where_it_is(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    (failure,) = found(spool)

    with spool.folders() as folders, pytest.raises(OSError, match="refused"):
        requeue(RefusingDisk("rename", b"a.pdf", 28), folders, failure)

    assert spool.files("failed").keys() >= {b"a.pdf", b"a.pdf.error.txt"}


@pytest.mark.parametrize(("later", "kept"), [(KEEP_SECONDS - 60.0, True), (KEEP_SECONDS + 60.0, False)])
def test_a_history_goes_after_a_week_and_not_before(later: float, kept: bool, spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    back(spool, b"a.pdf")

    with spool.folders() as folders:
        list(delete_expired(Disk(), folders.failed, time.time() + later, 60.0, has_notes=True))
        look = Disk().stat(folders.inbox, b"a.pdf")

    assert (history_name(look) in spool.files("failed")) is kept
