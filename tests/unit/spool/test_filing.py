"""Filing away: to done/, or to failed/ with a note; once, whoever else is at it."""

import contextlib
import errno
import os
from pathlib import Path

import pytest
from support.disk.disks import MovingDisk, RefusingDisk
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.spool.error_note import format_note, note_name
from inboxd.spool.filing import STALE_NOTE_SECONDS, file_done, file_failed, read_note
from inboxd.spool.layout import new_parcel_id

LONG = b"n" * 255


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


def note(path: bytes, parcel: str) -> bytes:
    return format_note(path, "a reason", inbox="drop", parcel=parcel, attempts=1, failed_at=0.0)


def done(spool: Spool, parcel: str, path: bytes, disk: Disk | None = None) -> bytes | None:
    with spool.folders() as folders:
        return file_done(disk or Disk(), folders, parcel, path)


def failed(spool: Spool, parcel: str, path: bytes, disk: Disk | None = None) -> bytes | None:
    with spool.folders() as folders:
        return file_failed(disk or Disk(), folders, parcel, path, note(path, parcel))


@pytest.mark.parametrize("path", [b"a", b"x/y/a.pdf", b"\xff/\n", LONG])
def test_a_file_is_filed_under_its_own_path(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(path)

    assert done(spool, parcel, path) == path

    assert spool.files() == {b"done/" + path: b"content"}


@pytest.mark.parametrize("path", [b"a", b"x/y/a.pdf", b"\xff/\n", LONG, b"a.error.txt"])
def test_a_failed_file_has_its_note_beside_it(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(path)

    assert failed(spool, parcel, path) == path

    folder, slash, name = path.rpartition(b"/")
    assert spool.files("failed") == {path: b"content", folder + slash + note_name(name): note(path, parcel)}


@pytest.mark.parametrize("file_away", [done, failed], ids=["done", "failed"])
@pytest.mark.parametrize("path", [b"gone", b"x/gone", b"no/such", b"a/b"])
def test_what_somebody_else_has_filed_is_no_error_and_leaves_no_trace(file_away: object, path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"x/b")
    before = spool.files()

    assert file_away(spool, parcel, path) is None
    assert file_away(spool, new_parcel_id(), path) is None

    assert spool.files() == before
    assert spool.folders_in("done") | spool.folders_in("failed") == set()


@pytest.mark.parametrize(("file_away", "top"), [(done, "done"), (failed, "failed")], ids=["done", "failed"])
def test_a_file_of_the_same_name_is_not_overwritten(file_away: object, top: str, spool: Spool) -> None:
    for number in (b"1", b"2", b"3"):
        parcel = spool.claimed(b"x/a.pdf", data=number)
        file_away(spool, parcel, b"x/a.pdf")

    found = {path: data for path, data in spool.files(top).items() if not path.endswith(b".error.txt")}
    assert found == {b"x/a.pdf": b"1", b"x/a (2).pdf": b"2", b"x/a (3).pdf": b"3"}


@pytest.mark.parametrize(("file_away", "top"), [(done, "done"), (failed, "failed")], ids=["done", "failed"])
def test_the_path_that_is_told_is_where_the_file_lies(file_away: object, top: str, spool: Spool) -> None:
    """A file may have the name of the sub-folder, as after `a` was filed and `a/b` was dropped."""
    spool.put(f"{top}/x".encode(), b"a file, no folder")
    parcel = spool.claimed(b"x/a")

    filed = file_away(spool, parcel, b"x/a")

    assert spool.files(top)[filed] == b"content"


@pytest.mark.parametrize(("file_away", "top"), [(done, "done"), (failed, "failed")], ids=["done", "failed"])
def test_a_link_in_the_place_of_a_sub_folder_is_not_followed(file_away: object, top: str, spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (spool.root / top / "x").symlink_to(tmp_path / "elsewhere")
    parcel = spool.claimed(b"x/a")

    file_away(spool, parcel, b"x/a")

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (spool.root / top / "x (2)" / "a").read_bytes() == b"content"


def test_each_of_two_failed_files_of_one_name_has_its_own_note(spool: Spool) -> None:
    parcels = [spool.claimed(b"a.pdf", data=data) for data in (b"1", b"2")]

    filed = [failed(spool, parcel, b"a.pdf") for parcel in parcels]

    assert filed == [b"a.pdf", b"a (2).pdf"]
    assert spool.notes() == {
        b"a.pdf.error.txt": note(b"a.pdf", parcels[0]),
        b"a (2).pdf.error.txt": note(b"a.pdf", parcels[1]),
    }


def test_a_users_file_with_a_notes_name_is_not_overwritten(spool: Spool) -> None:
    spool.put(b"failed/a.error.txt", b"a user's own")
    parcel = spool.claimed(b"a")

    assert failed(spool, parcel, b"a") == b"a (2)"

    assert spool.files("failed")[b"a.error.txt"] == b"a user's own"
    assert b"a (2).error.txt" in spool.notes()


def test_a_users_old_file_that_quotes_a_note_is_not_deleted(spool: Spool) -> None:
    """As when somebody moved the note back into inbox/ along with its file, and both failed again."""
    quoting = spool.claimed(b"a.error.txt", data=note(b"a", new_parcel_id()))
    failed(spool, quoting, b"a.error.txt")
    parcel = spool.claimed(b"a", data=b"a")

    failed(spool, parcel, b"a", Later())

    assert {b"a", note(b"a", parcel)} <= set(spool.files("failed").values())
    assert spool.files("failed")[b"a.error.txt"] != note(b"a", parcel)


def test_a_note_whose_file_was_taken_away_makes_room(spool: Spool) -> None:
    first = spool.claimed(b"a")
    failed(spool, first, b"a")
    (spool.root / "failed" / "a").rename(spool.root / "inbox" / "a")
    second = spool.claimed(b"a")

    assert failed(spool, second, b"a", Later()) == b"a"

    assert spool.notes() == {b"a.error.txt": note(b"a", second)}


def test_a_fresh_note_without_its_file_is_just_being_filed(spool: Spool) -> None:
    spool.put(b"failed/a.error.txt", note(b"a", new_parcel_id()))
    parcel = spool.claimed(b"a")

    assert failed(spool, parcel, b"a") == b"a (2)"


@pytest.mark.parametrize("path", [b"a", b"/".join([b"\xff" * 255] * 33)], ids=["a short path", "the longest path"])
def test_the_next_try_knows_its_own_note_again(path: bytes, spool: Spool) -> None:
    folder, slash, name = path.rpartition(b"/")
    parcel = new_parcel_id()
    _put_deep(spool, b"claimed/" + parcel.encode() + b"/" + path, b"content")
    _put_deep(spool, b"failed/" + folder + slash + note_name(name), note(path, parcel))

    assert failed(spool, parcel, path) == path


def test_a_success_that_is_quicker_than_the_failure_leaves_no_note(spool: Spool) -> None:
    def be_quicker(name: bytes) -> None:
        if name == b"a":
            done(spool, parcel, b"a")

    parcel = spool.claimed(b"a")

    assert failed(spool, parcel, b"a", MovingDisk(be_quicker)) is None

    assert spool.files() == {b"done/a": b"content"}


def test_a_note_that_can_not_be_written_leaves_nothing_behind_and_the_file_claimed(spool: Spool) -> None:
    class Full(Disk):
        def write(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "full")

    parcel = spool.claimed(b"a")

    with pytest.raises(OSError, match="full"):
        failed(spool, parcel, b"a", Full())

    assert spool.files() == {b"claimed/%s/a" % parcel.encode(): b"content"}


def test_a_note_that_can_not_be_read_is_not_ours(spool: Spool) -> None:
    spool.put(b"failed/n", note(b"a", new_parcel_id()))

    with spool.folders() as folders:
        assert read_note(RefusingDisk("open_file", b"n", errno.EACCES), folders.failed, b"n") == b""
        assert read_note(Disk(), folders.failed, b"gone") == b""


def test_filed_files_may_be_read_by_those_whom_the_folder_permits(spool: Spool) -> None:
    umask = os.umask(0o027)
    parcel = spool.claimed(b"x/a")

    failed(spool, parcel, b"x/a")

    os.umask(umask)
    assert (spool.root / "failed" / "x").stat().st_mode & 0o777 == 0o750
    assert (spool.root / "failed" / "x" / "a.error.txt").stat().st_mode & 0o777 == 0o640


class Later(Disk):
    """A disk on which every change was made long ago."""

    def stat(self, at: Fd, name: bytes) -> Stat:
        look = super().stat(at, name)
        return look._replace(ctime_ns=look.ctime_ns - int(2 * STALE_NOTE_SECONDS * 1e9))


def _put_deep(spool: Spool, path: bytes, data: bytes) -> None:
    """Write a file under a path that is too long for one system call."""
    *parts, name = path.split(b"/")
    at = os.open(spool.root, os.O_RDONLY)
    for part in parts:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, dir_fd=at)
        below = os.open(part, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    file = os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=at)
    os.write(file, data)
    os.close(file)
    os.close(at)
