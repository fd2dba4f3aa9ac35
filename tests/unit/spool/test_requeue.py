"""Requeuing failed files: to their original paths, without overwriting, and with their history of failures."""

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


def list_failed(spool: Spool) -> list[FailedFile]:
    with spool.folders() as folders:
        return sorted(list_failed_files(Disk(), folders), key=lambda failure: failure.path)


def requeue_path(spool: Spool, path: bytes, disk: Disk | None = None) -> bytes | None:
    (failure,) = [failure for failure in list_failed(spool) if failure.path == path]
    with spool.folders() as folders:
        return requeue(disk or Disk(), folders, failure)


@pytest.mark.parametrize("path", [b"a.pdf", b"x/y/a.pdf", HOSTILE, b"n" * 255, b"a.error.txt"])
def test_a_file_returns_to_its_original_path_and_leaves_no_visible_file_in_failed(path: bytes, spool: Spool) -> None:
    drop_and_fail(spool, path)

    requeued_path = requeue_path(spool, path)

    assert requeued_path == path
    assert spool.files("inbox") == {path: path}
    assert [name for name in spool.files("failed") if not name.startswith(b".inboxd-")] == []


def test_a_file_that_was_renamed_in_failed_gets_its_original_name(spool: Spool) -> None:
    drop_and_fail(spool, b"x/a.pdf")
    drop_and_fail(spool, b"x/a.pdf")

    requeued_path = requeue_path(spool, b"x/a (2).pdf")

    assert requeued_path == b"x/a.pdf"
    assert b"x/a.pdf" in spool.files("failed")


def test_nothing_in_the_inbox_is_overwritten(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    spool.put(b"inbox/a.pdf", b"another")

    requeued_path = requeue_path(spool, b"a.pdf")

    assert requeued_path == b"a (2).pdf"
    assert spool.files("inbox") == {b"a.pdf": b"another", b"a (2).pdf": b"a.pdf"}


def test_the_next_note_has_the_earlier_failures_oldest_first(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf", "no total", attempts=4)
    requeue_path(spool, b"a.pdf")
    fail_one(spool, b"a.pdf", "no customer", attempts=1)
    requeue_path(spool, b"a.pdf")

    fail_one(spool, b"a.pdf", "no date", attempts=2)

    note = parse_note(spool.notes()[b"a.pdf.error.txt"])
    assert note is not None
    assert (note.reason, note.attempts) == ("no date", 2)
    assert [line.partition(": ")[2] for line in note.earlier] == ["no total", "no customer"]
    assert "tried 4 times" in note.earlier[0]
    assert "tried once" in note.earlier[1]


def test_a_file_that_fails_again_within_a_minute_keeps_its_name(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    requeue_path(spool, b"a.pdf")

    fail_one(spool, b"a.pdf")

    assert spool.files("failed").keys() == {b"a.pdf", b"a.pdf.error.txt"}


def test_a_new_file_of_the_same_name_has_no_history(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf", "no total")
    requeue_path(spool, b"a.pdf")
    spool.where(b"inbox/a.pdf").rename(spool.root / "removed")

    drop_and_fail(spool, b"a.pdf", "no customer")

    assert "no total" not in spool.notes()[b"a.pdf.error.txt"].decode()


def test_a_file_that_was_corrected_in_failed_keeps_its_history(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf", "no total")
    spool.put(b"failed/a.pdf", b"corrected")
    requeue_path(spool, b"a.pdf")

    fail_one(spool, b"a.pdf", "no customer")

    assert "no total" in spool.notes()[b"a.pdf.error.txt"].decode()


def test_a_note_has_only_the_latest_failures_of_a_long_history(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf", "reason 0 " + "x" * 9000)
    for number in range(1, 15):
        requeue_path(spool, b"a.pdf")
        fail_one(spool, b"a.pdf", f"reason {number} " + "\u20ac" * 9000)

    note = parse_note(spool.notes()[b"a.pdf.error.txt"])

    assert note is not None
    assert [line.split("reason ")[1].split()[0] for line in note.earlier] == [str(number) for number in range(4, 14)]
    assert len(spool.notes()[b"a.pdf.error.txt"]) < NOTE_BYTES_MAX


def test_a_refused_folder_is_requeued_as_a_whole(spool: Spool) -> None:
    spool.put(b"inbox/x/deep/a", b"A")
    spool.put(b"inbox/x/deep/b", b"B")
    fail_one(spool, b"x/deep", "too deep", attempts=0)

    assert [(failure.path, failure.is_folder) for failure in list_failed(spool)] == [(b"x/deep", True)]
    requeue_path(spool, b"x/deep")

    assert spool.files("inbox") == {b"x/deep/a": b"A", b"x/deep/b": b"B"}


def test_a_file_without_a_note_can_be_requeued(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    spool.where(b"failed/a.pdf.error.txt").unlink()

    assert [(failure.path, failure.note) for failure in list_failed(spool)] == [(b"a.pdf", None)]
    assert requeue_path(spool, b"a.pdf") == b"a.pdf"


def test_a_note_with_a_changed_path_is_ignored(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    text = spool.notes()[b"a.pdf.error.txt"]
    spool.put(b"failed/a.pdf.error.txt", text.replace(b"inboxd path: a.pdf", b"inboxd path: b.pdf"))

    assert requeue_path(spool, b"a.pdf") == b"a.pdf"


def test_a_signed_path_out_of_the_inbox_is_ignored(spool: Spool) -> None:
    spool.put(b"failed/a.pdf")
    note = format_note(b"../b.pdf", "r", inbox="drop", parcel=f"{1:028x}", attempts=1, failed_at=0.0)
    spool.put(b"failed/a.pdf.error.txt", note)

    assert requeue_path(spool, b"a.pdf") == b"a.pdf"


def test_notes_unfinished_files_histories_and_reserved_names_are_not_listed(spool: Spool) -> None:
    drop_and_fail(spool, b"x/a.pdf")
    spool.put(b"failed/x/.inboxd-0123456789abcdef.note")
    spool.put(b"failed/.inboxd-0123456789abcdef.was")
    spool.where(b"failed/b").symlink_to("inboxd-reserved-1-2")

    assert [failure.path for failure in list_failed(spool)] == [b"x/a.pdf"]


def test_the_second_of_two_requeues_returns_none(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    (failure,) = list_failed(spool)

    with spool.folders() as folders:
        first, second = (requeue(Disk(), folders, failure) for _ in range(2))

    assert (first, second) == (b"a.pdf", None)


def test_a_sub_folder_that_is_pruned_just_before_the_move_is_created_again(spool: Spool) -> None:
    drop_and_fail(spool, b"x/a.pdf")
    (spool.root / "inbox" / "x").rmdir()
    pruned: list[bytes] = []

    def prune(name: bytes) -> None:
        if name == b"a.pdf" and not pruned:
            pruned.append(name)
            (spool.root / "inbox" / "x").rmdir()

    requeued_path = requeue_path(spool, b"x/a.pdf", MovingDisk(prune))

    assert pruned
    assert requeued_path == b"x/a.pdf"


def test_a_note_that_belongs_to_another_file_by_now_is_kept(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    other_note = format_note(b"a.pdf", "another", inbox="drop", parcel=f"{7:028x}", attempts=1, failed_at=0.0)

    def replace_note(name: bytes) -> None:
        if name == b"a.pdf":
            spool.put(b"failed/a.pdf.error.txt", other_note)

    requeue_path(spool, b"a.pdf", MovingDisk(replace_note))

    assert spool.notes() == {b"a.pdf.error.txt": other_note}


def test_on_a_full_disk_the_file_stays_in_failed(spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    (failure,) = list_failed(spool)

    with spool.folders() as folders, pytest.raises(OSError, match="refused"):
        requeue(RefusingDisk("rename", b"a.pdf", 28), folders, failure)

    assert spool.files("failed").keys() >= {b"a.pdf", b"a.pdf.error.txt"}


@pytest.mark.parametrize(("age_seconds", "is_kept"), [(KEEP_SECONDS - 60.0, True), (KEEP_SECONDS + 60.0, False)])
def test_a_history_is_deleted_after_a_week(age_seconds: float, is_kept: bool, spool: Spool) -> None:
    drop_and_fail(spool, b"a.pdf")
    requeue_path(spool, b"a.pdf")

    with spool.folders() as folders:
        list(delete_expired(Disk(), folders.failed, time.time() + age_seconds, 60.0, has_notes=True))
        stat = Disk().stat(folders.inbox, b"a.pdf")

    assert (history_name(stat) in spool.files("failed")) == is_kept
