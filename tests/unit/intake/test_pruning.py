"""Pruning inbox/: sub-folders that inboxd has emptied are removed, those that people have made stay."""

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
    return Spool.make(tmp_path / "drop")


def prune(spool: Spool, *paths: bytes, mtime: float = 0.0, now: float = 100.0, disk: Disk | None = None) -> list[bytes]:
    with spool.folders() as folders:
        return prune_folders(disk or Disk(), folders, innermost_first(ScannedFolder(path, mtime) for path in paths), now, QUIET)


def make_emptied(spool: Spool, *paths: bytes, top: bytes = b"done") -> None:
    for path in paths:
        spool.where(b"inbox/" + path).mkdir(parents=True)
        spool.put(top + b"/" + path + b"/a")


@pytest.mark.parametrize("top", [b"done", b"failed"])
def test_an_emptied_sub_folder_is_removed_with_its_parents(top: bytes, spool: Spool) -> None:
    make_emptied(spool, b"x/y/z", top=top)

    assert prune(spool, b"x", b"x/y", b"x/y/z") == [b"x/y/z", b"x/y", b"x"]

    assert spool.folders_in("inbox") == set()


def test_a_sub_folder_that_a_person_made_and_never_used_stays(spool: Spool) -> None:
    (spool.root / "inbox" / "x").mkdir()

    assert prune(spool, b"x") == []


@pytest.mark.parametrize(("now", "is_removed"), [(QUIET - 0.1, False), (QUIET, True)])
def test_a_recently_changed_sub_folder_stays(now: float, is_removed: bool, spool: Spool) -> None:
    make_emptied(spool, b"x")

    assert prune(spool, b"x", now=now) == ([b"x"] if is_removed else [])


def test_a_sub_folder_with_a_new_file_stays(spool: Spool) -> None:
    make_emptied(spool, b"x/y")
    spool.put(b"inbox/x/y/new")

    assert prune(spool, b"x", b"x/y") == []

    assert spool.files("inbox") == {b"x/y/new": b"content"}


def test_a_missing_sub_folder_is_not_an_error(spool: Spool) -> None:
    make_emptied(spool, b"x")
    (spool.root / "inbox" / "x").rmdir()

    assert prune(spool, b"x") == []


def test_a_link_that_replaced_a_sub_folder_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    make_emptied(spool, b"x/y")
    (tmp_path / "elsewhere" / "y").mkdir(parents=True)
    (spool.root / "inbox" / "x" / "y").rmdir()
    (spool.root / "inbox" / "x").rmdir()
    (spool.root / "inbox" / "x").symlink_to(tmp_path / "elsewhere")

    assert prune(spool, b"x", b"x/y") == []

    assert (tmp_path / "elsewhere" / "y").is_dir()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY], ids=errno.errorcode.get)
def test_a_sub_folder_that_can_not_be_removed_does_not_affect_others(code: int, spool: Spool) -> None:
    make_emptied(spool, b"x", b"z")

    assert prune(spool, b"x", b"z", disk=RefusingDisk("rmdir", b"x", code)) == [b"z"]
