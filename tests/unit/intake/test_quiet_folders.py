"""A folder of ignored names is not listed again until it changes."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.disk.scanned import FAR_FUTURE
from support.disk.spools import NO_WAITS, Spool

from inboxd.fs.syscalls import Disk, Fd
from inboxd.intake import scan as scanning
from inboxd.intake.readiness import Ready
from inboxd.intake.scan import QuietFolder, ScannedEntry, ScannedFolder, scan


class ListingDisk(Disk):
    """Records the inode numbers of the folders that are listed."""

    def __init__(self) -> None:
        self.listed: list[int] = []

    def entries(self, at: Fd) -> Iterator[tuple[bytes, bool]]:
        self.listed.append(self.fstat(at).ino)
        return super().entries(at)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def _scan(
    spool: Spool, quiet: dict[bytes, QuietFolder], clock: Callable[[], float] = lambda: FAR_FUTURE
) -> tuple[set[bytes], int]:
    """Return the paths of the ready files and scanned folders, and how many folders were listed."""
    disk = ListingDisk()
    with spool.folders() as folders:
        entries = list(scan(disk, folders.inbox, spool.inbox(exclude=["*.bak"]), NO_WAITS, clock, quiet=quiet))
    ready = {entry.path for entry in entries if isinstance(entry, ScannedEntry) and entry.decision == Ready()}
    return ready | {entry.path for entry in entries if isinstance(entry, ScannedFolder)}, len(disk.listed)


def test_an_unchanged_folder_of_ignored_names_is_listed_once(spool: Spool) -> None:
    spool.put(b"inbox/a.bak")
    spool.put(b"inbox/.hidden")
    quiet: dict[bytes, QuietFolder] = {}

    assert _scan(spool, quiet) == (set(), 1)
    assert _scan(spool, quiet) == (set(), 0)


@pytest.mark.parametrize("name", [b"a", b"sub/a"])
def test_a_new_file_in_it_is_found(spool: Spool, name: bytes) -> None:
    spool.put(b"inbox/sub/.hidden")
    spool.put(b"inbox/.hidden")
    quiet: dict[bytes, QuietFolder] = {}
    assert _scan(spool, quiet) == ({b"sub"}, 2)

    spool.put(b"inbox/" + name)

    assert _scan(spool, quiet) == ({b"sub", name}, 1)


def test_a_renamed_file_is_found(spool: Spool) -> None:
    place = spool.put(b"inbox/a.bak")
    quiet: dict[bytes, QuietFolder] = {}
    _scan(spool, quiet)

    place.rename(place.with_name("a"))

    assert _scan(spool, quiet)[0] == {b"a"}


def test_a_new_sub_folder_is_found(spool: Spool) -> None:
    spool.put(b"inbox/.hidden")
    quiet: dict[bytes, QuietFolder] = {}
    _scan(spool, quiet)

    spool.put(b"inbox/sub/a")

    assert _scan(spool, quiet)[0] == {b"sub", b"sub/a"}


def test_a_folder_that_replaces_it_is_listed(spool: Spool) -> None:
    place = spool.put(b"inbox/sub/.hidden").parent
    quiet: dict[bytes, QuietFolder] = {}
    _scan(spool, quiet)
    place.rename(spool.root / "gone")
    (spool.root / "gone2").mkdir()
    (spool.root / "gone2" / "a").write_bytes(b"x")
    (spool.root / "gone2").rename(place)

    assert b"sub/a" in _scan(spool, quiet)[0]


def test_a_folder_with_a_file_that_waits_is_listed_again(spool: Spool) -> None:
    with spool.put(b"inbox/a").open("ab"):
        quiet: dict[bytes, QuietFolder] = {}
        assert _scan(spool, quiet) == (set(), 1)

        assert _scan(spool, quiet) == (set(), 1)


def test_a_folder_that_changed_just_now_is_listed_again(spool: Spool) -> None:
    """Within one step of the clock, a second change would leave the same ctime."""
    spool.put(b"inbox/.hidden")
    quiet: dict[bytes, QuietFolder] = {}
    assert _scan(spool, quiet, time.time) == (set(), 1)

    assert _scan(spool, quiet, time.time) == (set(), 1)


def test_the_number_of_remembered_folders_is_bounded(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "QUIET_FOLDERS_MAX", 3)
    for number in range(8):
        spool.put(b"inbox/%d/.hidden" % number)
    quiet: dict[bytes, QuietFolder] = {}

    found, _ = _scan(spool, quiet)

    assert len(quiet) <= 3
    assert _scan(spool, quiet)[0] == found


def test_a_folder_with_more_names_than_are_kept_is_scanned_whole(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "NAMES_KEPT", 3)
    for number in range(5):
        spool.put(b"inbox/%d" % number)

    assert _scan(spool, {}) == ({b"%d" % number for number in range(5)}, 2)
