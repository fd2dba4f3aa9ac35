"""Scanning an inbox that may contain every kind of entry."""

import errno
import os
import socket
from pathlib import Path

import pytest
from support.disk.deep_trees import deep_tree
from support.disk.disks import RacingDisk, RefusingDisk
from support.disk.scanned import FAR_FUTURE, decisions, look
from support.disk.spools import NO_WAITS, Spool

from inboxd.fs.syscalls import Disk, FileKind
from inboxd.intake.readiness import Ignore, Ready, Refuse, Wait
from inboxd.intake.scan import DeniedEntry, ScannedEntry, ScannedFolder, scan
from inboxd.spool.failure import Failure, FailureKind


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def test_an_empty_inbox_yields_nothing(spool: Spool) -> None:
    assert look(spool) == []


def test_every_file_is_yielded_once_with_its_decision(spool: Spool) -> None:
    for path in (b"a", b"x/b", b"x/y/c", b"z/\xff\n"):
        spool.put(b"inbox/" + path, b"12345")

    scanned = [entry for entry in look(spool) if isinstance(entry, ScannedEntry)]

    assert {entry.path for entry in scanned} == {b"a", b"x/b", b"x/y/c", b"z/\xff\n"}
    assert all(entry.decision == Ready() and entry.stat is not None and entry.stat.size == 5 for entry in scanned)


def test_a_sub_folder_is_yielded_after_its_entries(spool: Spool) -> None:
    spool.put(b"inbox/x/a")
    (spool.root / "inbox" / "empty").mkdir()

    entries = look(spool)

    paths = [entry.path for entry in entries]
    assert {entry.path for entry in entries if isinstance(entry, ScannedFolder)} == {b"x", b"empty"}
    assert paths.index(b"x/a") < paths.index(b"x")


def test_a_sub_folder_is_yielded_with_the_time_at_which_its_mtime_was_set(spool: Spool) -> None:
    """`rsync -a` and `tar -xp` make a folder and give it the mtime of the source's."""
    spool.put(b"inbox/x/a")
    os.utime(spool.root / "inbox" / "x", (5.0, 1234.5))

    assert ScannedFolder(b"x", (spool.root / "inbox" / "x").stat().st_ctime_ns / 1e9) in look(spool)


def test_links_pipes_and_sockets_are_refused_and_not_opened(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spool.root / "inbox")
    Path("link").symlink_to("/etc/passwd")
    Path("folder-link").symlink_to("/etc")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")

    found = decisions(spool)

    assert found.keys() == {b"link", b"folder-link", b"pipe", b"socket"}
    assert all(isinstance(decision, Refuse) for decision in found.values())


def test_a_device_is_refused(spool: Spool) -> None:
    class DeviceDisk(Disk):
        """A disk that reports every file as a device, because only root can make a real one."""

        def stat(self, at: int, name: bytes) -> object:
            del at, name
            return super().stat(device_folder, b"null")

    spool.put(b"inbox/device")
    device_folder = os.open("/dev", os.O_RDONLY)

    found = decisions(spool, DeviceDisk())

    os.close(device_folder)
    assert found == {
        b"device": Refuse(Failure(FailureKind.NOT_A_FILE, f"not a regular file but a {FileKind.DEVICE}: drop the file itself"))
    }


def test_entries_that_are_ignored_by_name_are_not_checked_with_stat(spool: Spool) -> None:
    for path in (b"a.tmp", b"b.txt", b"c.pdf"):
        spool.put(b"inbox/" + path)

    entries = [entry for entry in look(spool, include=("*.pdf", "*.tmp")) if isinstance(entry, ScannedEntry)]

    assert {entry.path: type(entry.decision) for entry in entries} == {b"a.tmp": Ignore, b"b.txt": Ignore, b"c.pdf": Ready}
    assert {entry.path for entry in entries if entry.stat is None} == {b"a.tmp", b"b.txt"}


def test_hidden_folders_are_not_scanned(spool: Spool) -> None:
    for path in (b".git/a", b"@eaDir/b", b"x/.hidden/c", b"x/d"):
        spool.put(b"inbox/" + path)

    found = decisions(spool)

    assert {path for path, decision in found.items() if decision == Ready()} == {b"x/d"}
    assert {path for path, decision in found.items() if isinstance(decision, Ignore)} == {b".git", b"@eaDir", b"x/.hidden"}


def test_without_recursion_sub_folders_are_ignored(spool: Spool) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/x/b")

    found = decisions(spool, recursive=False)

    assert found == {b"a": Ready(), b"x": Ignore("a sub-folder, and recursive = false")}


def test_a_folder_that_is_nested_too_deep_is_refused_as_a_whole(spool: Spool) -> None:
    spool.put(b"inbox/1/2/a")
    spool.put(b"inbox/1/2/3/b")

    found = decisions(spool, depth_max=2)

    assert found == {b"1/2/a": Ready(), b"1/2/3": Refuse(Failure(FailureKind.TOO_DEEP, "folders are nested more than 2 deep"))}


def test_a_folder_that_is_nested_too_deep_is_not_moved_while_it_is_filled(spool: Spool) -> None:
    """It would be made again, and refused again, with each further file."""
    spool.put(b"inbox/1/2/a")
    changed = spool.put(b"inbox/1/2/3/4/5").stat().st_ctime

    early, late = (decisions(spool, now=changed + age, depth_max=2)[b"1/2/3"] for age in (9.0, 11.0))

    assert isinstance(early, Wait)
    assert isinstance(late, Refuse)


def test_a_tree_of_3000_levels_is_refused_at_the_depth_limit(spool: Spool) -> None:
    with deep_tree(spool.root / "inbox"):
        entries = look(spool)

    assert [entry.path.count(b"/") for entry in entries if isinstance(entry, ScannedEntry)] == [32]


def test_a_file_that_vanishes_during_the_scan_is_ignored(spool: Spool) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/b")

    def remove_all() -> None:
        for place in (spool.root / "inbox").iterdir():
            place.unlink()

    found = decisions(spool, RacingDisk(Disk(), remove_all, only="stat"))

    assert set(found.values()) == {Ignore("the file is missing")}


def test_a_folder_that_vanishes_during_the_scan_is_skipped(spool: Spool) -> None:
    spool.put(b"inbox/a")
    (spool.root / "inbox" / "x").mkdir()
    disk = Disk()
    with spool.folders() as folders:
        entries = scan(disk, folders.inbox, spool.inbox(), NO_WAITS, lambda: FAR_FUTURE)
        seen = [next(entries)]

        (spool.root / "inbox" / "x").rmdir()
        seen += entries

    assert [entry.path for entry in seen] == [b"a"]


def test_a_folder_that_is_replaced_by_a_link_during_the_scan_is_not_followed(spool: Spool) -> None:
    spool.put(b"inbox/a")
    (spool.root / "inbox" / "x").mkdir()
    with spool.folders() as folders:
        entries = scan(Disk(), folders.inbox, spool.inbox(), NO_WAITS, lambda: FAR_FUTURE)
        seen = [next(entries)]

        (spool.root / "inbox" / "x").rmdir()
        (spool.root / "inbox" / "x").symlink_to("/etc")
        seen += entries

    assert [entry.path for entry in seen] == [b"a"]


def test_a_folder_without_permission_is_yielded_as_denied(spool: Spool) -> None:
    spool.put(b"inbox/x/a")
    spool.put(b"inbox/b")

    entries = look(spool, RefusingDisk("open_folder", b"x", errno.EACCES))

    denied = [entry for entry in entries if isinstance(entry, DeniedEntry)]
    assert [entry.path for entry in denied] == [b"x"]
    assert {entry.path for entry in entries if isinstance(entry, ScannedEntry)} == {b"b"}


def test_an_unreadable_inbox_raises_an_error(spool: Spool) -> None:
    with pytest.raises(OSError, match="refused"):
        look(spool, RefusingDisk("open_folder", b".", errno.EIO))
