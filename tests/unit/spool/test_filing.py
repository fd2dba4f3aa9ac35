"""Filing to done/, or to failed/ with a note: exactly once, also in a race with another process."""

import contextlib
import errno
import os
from pathlib import Path

import pytest
from support.disk.disks import MovingDisk, RefusingDisk
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.spool.error_note import format_note, note_name
from inboxd.spool.filing import STALE_NOTE_SECONDS, move_to_done, move_to_failed, read_note
from inboxd.spool.layout import new_parcel_id

LONG_NAME = b"n" * 255


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


def note_for(path: bytes, parcel: str) -> bytes:
    return format_note(path, "a reason", inbox="drop", parcel=parcel, attempts=1, failed_at=0.0)


def file_to_done(spool: Spool, parcel: str, path: bytes, disk: Disk | None = None) -> bytes | None:
    with spool.folders() as folders:
        return move_to_done(disk or Disk(), folders, parcel, path)


def file_to_failed(spool: Spool, parcel: str, path: bytes, disk: Disk | None = None) -> bytes | None:
    with spool.folders() as folders:
        return move_to_failed(disk or Disk(), folders, parcel, path, note_for(path, parcel))


@pytest.mark.parametrize("path", [b"a", b"x/y/a.pdf", b"\xff/\n", LONG_NAME])
def test_a_file_is_filed_under_its_own_path(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(path)

    assert file_to_done(spool, parcel, path) == path

    assert spool.files() == {b"done/" + path: b"content"}


@pytest.mark.parametrize("path", [b"a", b"x/y/a.pdf", b"\xff/\n", LONG_NAME, b"a.error.txt"])
def test_a_failed_file_has_its_note_next_to_it(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(path)

    assert file_to_failed(spool, parcel, path) == path

    folder, slash, name = path.rpartition(b"/")
    assert spool.files("failed") == {path: b"content", folder + slash + note_name(name): note_for(path, parcel)}


@pytest.mark.parametrize("mover", [file_to_done, file_to_failed], ids=["done", "failed"])
@pytest.mark.parametrize("path", [b"missing", b"x/missing", b"no/such", b"a/b"])
def test_filing_a_missing_file_is_no_error_and_changes_nothing(mover: object, path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"x/b")
    before = spool.files()

    assert mover(spool, parcel, path) is None
    assert mover(spool, new_parcel_id(), path) is None

    assert spool.files() == before
    assert spool.folders_in("done") | spool.folders_in("failed") == set()


@pytest.mark.parametrize(("mover", "top"), [(file_to_done, "done"), (file_to_failed, "failed")], ids=["done", "failed"])
def test_a_file_of_the_same_name_is_not_overwritten(mover: object, top: str, spool: Spool) -> None:
    for number in (b"1", b"2", b"3"):
        parcel = spool.claimed(b"x/a.pdf", data=number)
        mover(spool, parcel, b"x/a.pdf")

    files = {path: data for path, data in spool.files(top).items() if not path.endswith(b".error.txt")}
    assert files == {b"x/a.pdf": b"1", b"x/a (2).pdf": b"2", b"x/a (3).pdf": b"3"}


@pytest.mark.parametrize(("mover", "top"), [(file_to_done, "done"), (file_to_failed, "failed")], ids=["done", "failed"])
def test_the_returned_path_is_the_path_of_the_file(mover: object, top: str, spool: Spool) -> None:
    """A file may have the name of the sub-folder, as after `a` was filed and `a/b` was dropped."""
    spool.put(f"{top}/x".encode(), b"a file, no folder")
    parcel = spool.claimed(b"x/a")

    filed_path = mover(spool, parcel, b"x/a")

    assert spool.files(top)[filed_path] == b"content"


@pytest.mark.parametrize(("mover", "top"), [(file_to_done, "done"), (file_to_failed, "failed")], ids=["done", "failed"])
def test_a_symlink_instead_of_a_sub_folder_is_not_followed(mover: object, top: str, spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (spool.root / top / "x").symlink_to(tmp_path / "elsewhere")
    parcel = spool.claimed(b"x/a")

    mover(spool, parcel, b"x/a")

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (spool.root / top / "x (2)" / "a").read_bytes() == b"content"


def test_each_of_two_failed_files_of_one_name_has_its_own_note(spool: Spool) -> None:
    parcels = [spool.claimed(b"a.pdf", data=data) for data in (b"1", b"2")]

    filed_paths = [file_to_failed(spool, parcel, b"a.pdf") for parcel in parcels]

    assert filed_paths == [b"a.pdf", b"a (2).pdf"]
    assert spool.notes() == {
        b"a.pdf.error.txt": note_for(b"a.pdf", parcels[0]),
        b"a (2).pdf.error.txt": note_for(b"a.pdf", parcels[1]),
    }


def test_a_users_file_with_the_name_of_a_note_is_not_overwritten(spool: Spool) -> None:
    spool.put(b"failed/a.error.txt", b"a user's file")
    parcel = spool.claimed(b"a")

    assert file_to_failed(spool, parcel, b"a") == b"a (2)"

    assert spool.files("failed")[b"a.error.txt"] == b"a user's file"
    assert b"a (2).error.txt" in spool.notes()


def test_a_users_old_file_with_the_content_of_a_note_is_not_deleted(spool: Spool) -> None:
    """A user may move a note back to inbox/ together with its file, and both fail again."""
    note_parcel = spool.claimed(b"a.error.txt", data=note_for(b"a", new_parcel_id()))
    file_to_failed(spool, note_parcel, b"a.error.txt")
    parcel = spool.claimed(b"a", data=b"a")

    file_to_failed(spool, parcel, b"a", OldChangesDisk())

    assert {b"a", note_for(b"a", parcel)} <= set(spool.files("failed").values())
    assert spool.files("failed")[b"a.error.txt"] != note_for(b"a", parcel)


def test_an_old_note_without_its_file_is_replaced(spool: Spool) -> None:
    old_parcel = spool.claimed(b"a")
    file_to_failed(spool, old_parcel, b"a")
    (spool.root / "failed" / "a").rename(spool.root / "inbox" / "a")
    new_parcel = spool.claimed(b"a")

    assert file_to_failed(spool, new_parcel, b"a", OldChangesDisk()) == b"a"

    assert spool.notes() == {b"a.error.txt": note_for(b"a", new_parcel)}


def test_a_new_note_without_its_file_is_not_replaced(spool: Spool) -> None:
    spool.put(b"failed/a.error.txt", note_for(b"a", new_parcel_id()))
    parcel = spool.claimed(b"a")

    assert file_to_failed(spool, parcel, b"a") == b"a (2)"


@pytest.mark.parametrize("path", [b"a", b"/".join([b"\xff" * 255] * 33)], ids=["a short path", "the longest path"])
def test_the_next_attempt_uses_the_files_own_note(path: bytes, spool: Spool) -> None:
    folder, slash, name = path.rpartition(b"/")
    parcel = new_parcel_id()
    _put_deep(spool, b"claimed/" + parcel.encode() + b"/" + path, b"content")
    _put_deep(spool, b"failed/" + folder + slash + note_name(name), note_for(path, parcel))

    assert file_to_failed(spool, parcel, path) == path


def test_a_success_that_wins_the_race_against_a_failure_leaves_no_note(spool: Spool) -> None:
    def file_first(name: bytes) -> None:
        if name == b"a":
            file_to_done(spool, parcel, b"a")

    parcel = spool.claimed(b"a")

    assert file_to_failed(spool, parcel, b"a", MovingDisk(file_first)) is None

    assert spool.files() == {b"done/a": b"content"}


def test_if_the_note_can_not_be_written_the_file_stays_claimed(spool: Spool) -> None:
    class FullDisk(Disk):
        def write(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "full")

    parcel = spool.claimed(b"a")

    with pytest.raises(OSError, match="full"):
        file_to_failed(spool, parcel, b"a", FullDisk())

    assert spool.files() == {b"claimed/%s/a" % parcel.encode(): b"content"}


def test_read_note_returns_nothing_for_an_unreadable_or_missing_file(spool: Spool) -> None:
    spool.put(b"failed/n", note_for(b"a", new_parcel_id()))

    with spool.folders() as folders:
        assert read_note(RefusingDisk("open_file", b"n", errno.EACCES), folders.failed, b"n") == b""
        assert read_note(Disk(), folders.failed, b"missing") == b""


def test_the_umask_applies_to_filed_folders_and_notes(spool: Spool) -> None:
    umask = os.umask(0o027)
    parcel = spool.claimed(b"x/a")

    file_to_failed(spool, parcel, b"x/a")

    os.umask(umask)
    assert (spool.root / "failed" / "x").stat().st_mode & 0o777 == 0o750
    assert (spool.root / "failed" / "x" / "a.error.txt").stat().st_mode & 0o777 == 0o640


class OldChangesDisk(Disk):
    """Reports a ctime older than STALE_NOTE_SECONDS for each entry."""

    def stat(self, at: Fd, name: bytes) -> Stat:
        stat = super().stat(at, name)
        return stat._replace(ctime_ns=stat.ctime_ns - int(2 * STALE_NOTE_SECONDS * 1e9))


def _put_deep(spool: Spool, path: bytes, data: bytes) -> None:
    """Write a file under a path that is too long for one system call."""
    *parts, name = path.split(b"/")
    at = os.open(spool.root, os.O_RDONLY)
    for part in parts:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, dir_fd=at)
        child = os.open(part, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = child
    file = os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=at)
    os.write(file, data)
    os.close(file)
    os.close(at)
