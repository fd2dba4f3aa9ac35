"""Tidying: what was kept long enough, notes without files, our own leftovers, and sub-folders that we have emptied."""

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

DAY = 86_400.0
OLD = 2 * LEFTOVER_SECONDS


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


def note(path: bytes) -> bytes:
    return format_note(path, "a reason", inbox="drop", parcel=new_parcel_id(), attempts=1, failed_at=0.0)


def removed(spool: Spool, top: str, later: float, keep: float = 0.0, disk: Disk | None = None) -> list[Deleted]:
    with spool.folders() as folders:
        notes_too = top == "failed"
        return list(delete_expired(disk or Disk(), getattr(folders, top), time.time() + later, keep, has_notes=notes_too))


@pytest.mark.parametrize("top", ["done", "failed"])
def test_nothing_is_deleted_unless_the_settings_say_so(top: str, spool: Spool) -> None:
    spool.put(f"{top}/x/a".encode())

    assert removed(spool, top, later=1000 * DAY) == []

    assert spool.files(top) == {b"x/a": b"content"}


@pytest.mark.parametrize(("later", "gone"), [(DAY - 60.0, False), (DAY + 60.0, True)])
def test_a_file_is_deleted_once_it_was_kept_for_as_long_as_the_settings_say(later: float, gone: bool, spool: Spool) -> None:
    spool.put(b"done/x/a")

    told = removed(spool, "done", later, keep=DAY)

    assert told == ([Deleted(b"x/a", "kept for 1 days")] if gone else [])
    assert (spool.files("done") == {}) is gone


def test_age_counts_from_the_filing_and_not_from_the_files_own_time(spool: Spool) -> None:
    place = spool.put(b"done/a")
    os.utime(place, (0.0, 0.0))

    assert removed(spool, "done", later=0.0, keep=DAY) == []


def test_a_folder_goes_with_its_last_file_and_those_above_it_too(spool: Spool) -> None:
    spool.put(b"done/x/y/a")
    spool.put(b"done/z/b")

    removed(spool, "done", later=DAY - 60.0, keep=DAY)
    kept = spool.folders_in("done")
    removed(spool, "done", later=DAY + 60.0, keep=DAY)

    assert kept == {b"x", b"x/y", b"z"}
    assert spool.folders_in("done") == set()


def test_what_lies_in_a_folder_that_was_refused_as_a_whole_is_as_old_as_its_note(spool: Spool) -> None:
    """The files in it were never renamed: their own times are from long before the folder came to failed/."""
    spool.put(b"failed/x/a")
    spool.put(b"failed/x.error.txt", note(b"x"))

    with spool.folders() as folders:
        told = list(delete_expired(_LongAgo(b"a"), folders.failed, time.time(), DAY, has_notes=True))

    assert told == []
    assert spool.files("failed").keys() == {b"x/a", b"x.error.txt"}


def test_what_lies_beside_a_note_that_can_not_be_seen_is_not_judged(spool: Spool) -> None:
    class Blind(_LongAgo):
        """Can't see the note."""

        def stat(self, at: Fd, name: bytes) -> Stat:
            if name.endswith(SUFFIX):
                raise OSError(errno.EIO, "on purpose")
            return super().stat(at, name)

    spool.put(b"failed/x/a")
    spool.put(b"failed/x.error.txt", note(b"x"))

    with spool.folders() as folders, pytest.raises(OSError, match="on purpose"):
        list(delete_expired(Blind(b"a"), folders.failed, time.time(), DAY, has_notes=True))

    assert spool.files("failed").keys() == {b"x/a", b"x.error.txt"}


def test_a_users_file_that_begins_like_our_own_stays(spool: Spool) -> None:
    for name in (b".inboxd-notes", b".inboxd-0123456789abcdef.note.pdf", b".inboxd-0123456789ABCDEF.part"):
        spool.put(b"done/" + name)

    assert removed(spool, "done", OLD) == []


def test_a_name_that_stays_reserved_for_a_file_that_never_came_is_freed(spool: Spool) -> None:
    (spool.root / "done" / "a").symlink_to("inboxd-reserved-1-2")

    assert removed(spool, "done", LEFTOVER_SECONDS - 60.0) == []
    assert [one.path for one in removed(spool, "done", OLD)] == [b"a"]


def test_empty_folders_stay_where_everything_is_kept(spool: Spool) -> None:
    (spool.root / "done" / "x").mkdir()

    removed(spool, "done", later=1000 * DAY)

    assert spool.folders_in("done") == {b"x"}


@pytest.mark.parametrize("top", ["done", "failed"])
@pytest.mark.parametrize("name", [b".inboxd-0123456789abcdef.note", b".inboxd-0123456789abcdef.part"])
def test_our_own_unfinished_files_go_when_nobody_can_be_at_work_on_them(top: str, name: bytes, spool: Spool) -> None:
    spool.put(top.encode() + b"/x/" + name)

    assert removed(spool, top, later=LEFTOVER_SECONDS - 60.0) == []
    assert removed(spool, top, later=LEFTOVER_SECONDS + 60.0) == [
        Deleted(b"x/" + name, "unfinished temporary file or name reservation")
    ]


def test_a_note_whose_file_was_taken_away_goes(spool: Spool) -> None:
    spool.put(b"failed/x/a.error.txt", note(b"x/a"))

    assert removed(spool, "failed", LEFTOVER_SECONDS - 60.0) == []
    assert removed(spool, "failed", OLD) == [Deleted(b"x/a.error.txt", "error note without its file")]


def test_a_note_beside_its_file_stays(spool: Spool) -> None:
    spool.put(b"failed/a")
    spool.put(b"failed/a.error.txt", note(b"a"))

    assert removed(spool, "failed", OLD) == []


@pytest.mark.parametrize("name", [b"n" * 255, b"a~b"])
def test_the_note_of_a_file_that_is_there_stays_whatever_the_files_name(name: bytes, spool: Spool) -> None:
    spool.put(b"failed/" + name)
    spool.put(b"failed/" + note_name(name), note(name))

    assert removed(spool, "failed", OLD) == []


def test_a_users_own_file_with_a_notes_name_stays(spool: Spool) -> None:
    spool.put(b"failed/a.error.txt", b"a user's own")

    assert removed(spool, "failed", OLD) == []


def test_nothing_in_done_is_taken_for_a_note(spool: Spool) -> None:
    """As when somebody moved a note back into inbox/, and it was processed like any other file."""
    spool.put(b"done/a.error.txt", note(b"a"))

    assert removed(spool, "done", OLD) == []


def test_a_failed_file_that_is_a_note_with_a_note_of_its_own_stays(spool: Spool) -> None:
    spool.put(b"failed/a.error.txt", note(b"a"))
    spool.put(b"failed/a.error.txt.error.txt", note(b"a.error.txt"))

    assert removed(spool, "failed", OLD) == []


def test_links_are_deleted_and_not_followed(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(b"not ours")
    (spool.root / "failed" / "link").symlink_to(tmp_path / "elsewhere")

    removed(spool, "failed", 2 * DAY, keep=DAY)

    assert list((spool.root / "failed").iterdir()) == []
    assert (tmp_path / "elsewhere" / "a").read_bytes() == b"not ours"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT], ids=errno.errorcode.get)
def test_a_file_that_can_not_be_deleted_does_not_keep_the_others(code: int, spool: Spool) -> None:
    for path in (b"done/a", b"done/b", b"done/x/c"):
        spool.put(path)

    removed(spool, "done", 2 * DAY, keep=DAY, disk=RefusingDisk("unlink", b"a", code))

    assert spool.files("done") == {b"a": b"content"}


def test_a_tree_of_3000_levels_is_gone_through_level_by_level(spool: Spool) -> None:
    """A folder that is nested too deep is refused, and lies in failed/ as a whole."""
    patient = Fuse(Disk(), 20 * LEVELS)  # to open each folder from the top takes millions

    with deep_tree(spool.root / "failed") as deep:
        told = removed(spool, "failed", 2 * DAY, keep=DAY, disk=patient)

    assert [one.path for one in told] == [deep]


class _LongAgo(Disk):
    """A disk on which one file changed long ago."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def stat(self, at: Fd, name: bytes) -> object:
        look = super().stat(at, name)
        return look._replace(ctime_ns=0) if name == self._name else look
