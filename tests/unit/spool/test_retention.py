"""Retention: expired files, notes without files, leftovers of inboxd, and emptied sub-folders."""

import errno
import os
import time
from pathlib import Path

import pytest
from support.crash.fuse import Fuse
from support.disk.deep_trees import LEVELS, deep_tree
from support.disk.disks import RefusingDisk
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.spool.error_note import SUFFIX, format_note, note_name
from inboxd.spool.layout import new_parcel_id
from inboxd.spool.retention import LEFTOVER_SECONDS, Deleted, delete_expired

DAY_SECONDS = 86_400.0
LEFTOVER_AGE_SECONDS = 2 * LEFTOVER_SECONDS


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


def note_for(path: bytes) -> bytes:
    return format_note(path, "a reason", inbox="drop", parcel=new_parcel_id(), attempts=1, failed_at=0.0)


def expire(spool: Spool, top: str, age: float, keep: float = 0.0, disk: Disk | None = None) -> list[Deleted]:
    with spool.folders() as folders:
        has_notes = top == "failed"
        return list(delete_expired(disk or Disk(), getattr(folders, top), time.time() + age, keep, has_notes=has_notes))


@pytest.mark.parametrize("top", ["done", "failed"])
def test_without_a_retention_period_nothing_is_deleted(top: str, spool: Spool) -> None:
    spool.put(f"{top}/x/a".encode())

    assert expire(spool, top, age=1000 * DAY_SECONDS) == []

    assert spool.files(top) == {b"x/a": b"content"}


@pytest.mark.parametrize(("age", "is_deleted"), [(DAY_SECONDS - 60.0, False), (DAY_SECONDS + 60.0, True)])
def test_a_file_is_deleted_after_its_retention_period(age: float, is_deleted: bool, spool: Spool) -> None:
    spool.put(b"done/x/a")

    deletions = expire(spool, "done", age, keep=DAY_SECONDS)

    assert deletions == ([Deleted(b"x/a", "kept for 1 days")] if is_deleted else [])
    assert (spool.files("done") == {}) == is_deleted


def test_age_counts_from_the_ctime_and_not_from_the_mtime(spool: Spool) -> None:
    path = spool.put(b"done/a")
    os.utime(path, (0.0, 0.0))

    assert expire(spool, "done", age=0.0, keep=DAY_SECONDS) == []


def test_emptied_folders_and_their_parents_are_removed(spool: Spool) -> None:
    spool.put(b"done/x/y/a")
    spool.put(b"done/z/b")

    expire(spool, "done", age=DAY_SECONDS - 60.0, keep=DAY_SECONDS)
    folders_before = spool.folders_in("done")
    expire(spool, "done", age=DAY_SECONDS + 60.0, keep=DAY_SECONDS)

    assert folders_before == {b"x", b"x/y", b"z"}
    assert spool.folders_in("done") == set()


def test_files_in_a_refused_folder_are_as_old_as_its_note(spool: Spool) -> None:
    """The files in the folder were never renamed: their ctimes are from before the folder's move to failed/."""
    spool.put(b"failed/x/a")
    spool.put(b"failed/x.error.txt", note_for(b"x"))

    with spool.folders() as folders:
        deletions = list(delete_expired(_OldFileDisk(b"a"), folders.failed, time.time(), DAY_SECONDS, has_notes=True))

    assert deletions == []
    assert spool.files("failed").keys() == {b"x/a", b"x.error.txt"}


def test_an_unreadable_note_ends_the_retention_without_a_deletion(spool: Spool) -> None:
    class FailingDisk(_OldFileDisk):
        """Fails to stat the note."""

        def stat(self, at: Fd, name: bytes) -> Stat:
            if name.endswith(SUFFIX):
                raise OSError(errno.EIO, "on purpose")
            return super().stat(at, name)

    spool.put(b"failed/x/a")
    spool.put(b"failed/x.error.txt", note_for(b"x"))

    with spool.folders() as folders, pytest.raises(OSError, match="on purpose"):
        list(delete_expired(FailingDisk(b"a"), folders.failed, time.time(), DAY_SECONDS, has_notes=True))

    assert spool.files("failed").keys() == {b"x/a", b"x.error.txt"}


def test_a_users_file_with_the_prefix_of_temporary_files_is_kept(spool: Spool) -> None:
    for name in (b".inboxd-notes", b".inboxd-0123456789abcdef.note.pdf", b".inboxd-0123456789ABCDEF.part"):
        spool.put(b"done/" + name)

    assert expire(spool, "done", LEFTOVER_AGE_SECONDS) == []


def test_an_old_name_reservation_is_deleted(spool: Spool) -> None:
    (spool.root / "done" / "a").symlink_to("inboxd-reserved-1-2")

    assert expire(spool, "done", LEFTOVER_SECONDS - 60.0) == []
    assert [deletion.path for deletion in expire(spool, "done", LEFTOVER_AGE_SECONDS)] == [b"a"]


def test_without_a_retention_period_empty_folders_are_kept(spool: Spool) -> None:
    (spool.root / "done" / "x").mkdir()

    expire(spool, "done", age=1000 * DAY_SECONDS)

    assert spool.folders_in("done") == {b"x"}


@pytest.mark.parametrize("top", ["done", "failed"])
@pytest.mark.parametrize("name", [b".inboxd-0123456789abcdef.note", b".inboxd-0123456789abcdef.part"])
def test_old_unfinished_files_are_deleted(top: str, name: bytes, spool: Spool) -> None:
    spool.put(top.encode() + b"/x/" + name)

    assert expire(spool, top, age=LEFTOVER_SECONDS - 60.0) == []
    assert expire(spool, top, age=LEFTOVER_SECONDS + 60.0) == [Deleted(b"x/" + name, "leftover temporary file of inboxd")]


def test_an_old_note_without_its_file_is_deleted(spool: Spool) -> None:
    spool.put(b"failed/x/a.error.txt", note_for(b"x/a"))

    assert expire(spool, "failed", LEFTOVER_SECONDS - 60.0) == []
    assert expire(spool, "failed", LEFTOVER_AGE_SECONDS) == [Deleted(b"x/a.error.txt", "error note without its file")]


def test_a_note_with_its_file_is_kept(spool: Spool) -> None:
    spool.put(b"failed/a")
    spool.put(b"failed/a.error.txt", note_for(b"a"))

    assert expire(spool, "failed", LEFTOVER_AGE_SECONDS) == []


@pytest.mark.parametrize("name", [b"n" * 255, b"a~b"])
def test_a_note_with_a_cut_name_is_kept(name: bytes, spool: Spool) -> None:
    spool.put(b"failed/" + name)
    spool.put(b"failed/" + note_name(name), note_for(name))

    assert expire(spool, "failed", LEFTOVER_AGE_SECONDS) == []


def test_a_users_file_with_the_name_of_a_note_is_kept(spool: Spool) -> None:
    spool.put(b"failed/a.error.txt", b"a user's file")

    assert expire(spool, "failed", LEFTOVER_AGE_SECONDS) == []


def test_in_done_a_file_with_the_content_of_a_note_is_kept(spool: Spool) -> None:
    """A user may move a note to inbox/, where it is processed like any other file."""
    spool.put(b"done/a.error.txt", note_for(b"a"))

    assert expire(spool, "done", LEFTOVER_AGE_SECONDS) == []


def test_a_failed_file_with_the_content_of_a_note_is_kept(spool: Spool) -> None:
    spool.put(b"failed/a.error.txt", note_for(b"a"))
    spool.put(b"failed/a.error.txt.error.txt", note_for(b"a.error.txt"))

    assert expire(spool, "failed", LEFTOVER_AGE_SECONDS) == []


def test_symlinks_are_deleted_and_not_followed(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(b"unrelated")
    (spool.root / "failed" / "link").symlink_to(tmp_path / "elsewhere")

    expire(spool, "failed", 2 * DAY_SECONDS, keep=DAY_SECONDS)

    assert list((spool.root / "failed").iterdir()) == []
    assert (tmp_path / "elsewhere" / "a").read_bytes() == b"unrelated"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT], ids=errno.errorcode.get)
def test_a_file_that_can_not_be_deleted_does_not_prevent_other_deletions(code: int, spool: Spool) -> None:
    for path in (b"done/a", b"done/b", b"done/x/c"):
        spool.put(path)

    expire(spool, "done", 2 * DAY_SECONDS, keep=DAY_SECONDS, disk=RefusingDisk("unlink", b"a", code))

    assert spool.files("done") == {b"a": b"content"}


def test_a_tree_of_3000_levels_takes_a_few_operations_per_level(spool: Spool) -> None:
    """A folder that is nested too deep is refused and moved to failed/ as a whole."""
    limited = Fuse(Disk(), 20 * LEVELS)  # opening each folder from the top would take millions of operations

    with deep_tree(spool.root / "failed") as deep_path:
        deletions = expire(spool, "failed", 2 * DAY_SECONDS, keep=DAY_SECONDS, disk=limited)

    assert [deletion.path for deletion in deletions] == [deep_path]


class _OldFileDisk(Disk):
    """Reports a ctime of 0 for one file."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def stat(self, at: Fd, name: bytes) -> object:
        stat = super().stat(at, name)
        return stat._replace(ctime_ns=0) if name == self._name else stat
