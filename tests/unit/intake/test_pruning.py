"""Tidying inbox/: sub-folders that we have emptied go, and those that people have made stay."""

import errno
from pathlib import Path

import pytest
from support.disk.disks import RefusingDisk
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.intake.pruning import innermost_first, prune_folders
from inboxd.intake.scan import ScannedFolder

QUIET = 30.0


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


def pruned(spool: Spool, *paths: bytes, mtime: float = 0.0, now: float = 100.0, disk: Disk | None = None) -> list[bytes]:
    with spool.folders() as folders:
        return prune_folders(disk or Disk(), folders, innermost_first(ScannedFolder(path, mtime) for path in paths), now, QUIET)


def went_through(spool: Spool, *paths: bytes, top: bytes = b"done") -> None:
    for path in paths:
        spool.where(b"inbox/" + path).mkdir(parents=True)
        spool.put(top + b"/" + path + b"/a")


@pytest.mark.parametrize("top", [b"done", b"failed"])
def test_an_emptied_sub_folder_is_removed_with_those_above_it(top: bytes, spool: Spool) -> None:
    went_through(spool, b"x/y/z", top=top)

    assert pruned(spool, b"x", b"x/y", b"x/y/z") == [b"x/y/z", b"x/y", b"x"]

    assert spool.folders_in("inbox") == set()


def test_a_sub_folder_that_a_person_made_and_never_used_stays(spool: Spool) -> None:
    (spool.root / "inbox" / "x").mkdir()

    assert pruned(spool, b"x") == []


@pytest.mark.parametrize(("now", "gone"), [(QUIET - 0.1, False), (QUIET, True)])
def test_a_sub_folder_in_which_something_just_happened_stays(now: float, gone: bool, spool: Spool) -> None:
    went_through(spool, b"x")

    assert pruned(spool, b"x", now=now) == ([b"x"] if gone else [])


def test_a_sub_folder_that_is_in_use_again_stays(spool: Spool) -> None:
    went_through(spool, b"x/y")
    spool.put(b"inbox/x/y/new")

    assert pruned(spool, b"x", b"x/y") == []

    assert spool.files("inbox") == {b"x/y/new": b"content"}


def test_a_sub_folder_that_somebody_else_removed_is_no_error(spool: Spool) -> None:
    went_through(spool, b"x")
    (spool.root / "inbox" / "x").rmdir()

    assert pruned(spool, b"x") == []


def test_a_link_in_the_place_of_a_sub_folder_stays(spool: Spool, tmp_path: Path) -> None:
    went_through(spool, b"x/y")
    (tmp_path / "elsewhere" / "y").mkdir(parents=True)
    (spool.root / "inbox" / "x" / "y").rmdir()
    (spool.root / "inbox" / "x").rmdir()
    (spool.root / "inbox" / "x").symlink_to(tmp_path / "elsewhere")

    assert pruned(spool, b"x", b"x/y") == []

    assert (tmp_path / "elsewhere" / "y").is_dir()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY], ids=errno.errorcode.get)
def test_a_sub_folder_that_can_not_be_removed_does_not_keep_the_others(code: int, spool: Spool) -> None:
    went_through(spool, b"x", b"z")

    assert pruned(spool, b"x", b"z", disk=RefusingDisk("rmdir", b"x", code)) == [b"z"]
