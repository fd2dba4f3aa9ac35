"""Two at one file: whatever a rival does before any single operation of ours, nothing is lost or doubled."""

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from support.crash.crash_points import walked
from support.crash.spool_scenarios import PARCEL, P, away, note, notes_found, notes_wanted, places, take
from support.disk.disks import LinkingDisk, RacingDisk, TwoDisks, kind_of
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.spool.claims import release_file, split_off
from inboxd.spool.filing import file_done, file_failed
from inboxd.spool.layout import Folders, new_parcel_id

PATH = b"x/a.pdf"
Act = Callable[[Disk, Folders], object]


def succeed(disk: Disk, folders: Folders) -> None:
    file_done(disk, folders, PARCEL, PATH)


def fail(disk: Disk, folders: Folders) -> None:
    file_failed(disk, folders, PARCEL, PATH, note(PATH, PARCEL))


def give_back(disk: Disk, folders: Folders) -> None:
    release_file(disk, folders, PARCEL, PATH)


def split(disk: Disk, folders: Folders) -> None:
    split_off(disk, folders, PARCEL, PATH, new_parcel_id())


ACTS = (succeed, fail, give_back, split)
PAIRS = [(one, other, disk) for one in ACTS for other in ACTS for disk in (Disk(), LinkingDisk())]
PAIRS += [(one, other, TwoDisks()) for one in (succeed, fail) for other in (succeed, fail)]


def quietly(act: Act, disk: Disk, folders: Folders) -> None:
    """Act; who finds that another is just copying the file leaves it to him, or to the next sweep."""
    with contextlib.suppress(BlockingIOError):
        act(disk, folders)


def named(value: object) -> str:
    return type(value).__name__ if isinstance(value, Disk) else getattr(value, "__name__", str(value))


def assert_it_is_once_anywhere(spool: Spool) -> None:
    lying = spool.files()
    assert [len(paths) for paths in places(lying).values()] == [1, 1]
    assert notes_wanted(lying) <= notes_found(lying)


@pytest.mark.parametrize(("one", "other", "disk"), PAIRS, ids=named)
def test_of_two_that_move_one_file_one_wins_at_whatever_moment_they_meet(
    one: Act, other: Act, disk: Disk, tmp_path: Path
) -> None:
    for point in itertools.count(1):
        spool = Spool.make(tmp_path / str(point))
        spool.put(P + PATH, b"A")
        spool.put(b"done/" + PATH, b"B")
        with spool.folders() as folders:
            racing = RacingDisk(disk, lambda: quietly(other, disk, folders), point)
            quietly(one, racing, folders)

        assert_it_is_once_anywhere(spool)
        if not isinstance(disk, TwoDisks):  # there, who gives way to another leaves his note to retention
            assert notes_found(spool.files()) == notes_wanted(spool.files())
        if not racing.raced:
            break
        walked("two at one file", "a rival", (named(one), named(other), point), kind_of(disk))

    assert point > 4


@pytest.mark.parametrize("disk", [Disk(), LinkingDisk()], ids=named)
def test_of_two_that_claim_the_same_files_each_file_gets_one(disk: Disk, tmp_path: Path) -> None:
    for point in itertools.count(1):
        spool = Spool.make(tmp_path / str(point))
        for path in (b"a", b"x/b", b"x/y/c"):
            spool.put(b"inbox/" + path, path)
        with spool.folders() as folders:
            racing = RacingDisk(disk, lambda: take(new_parcel_id())(disk, folders, spool.inbox()), point)  # noqa: B023
            take(PARCEL)(racing, folders, spool.inbox())

            assert [len(paths) for paths in places(spool.files()).values()] == [1, 1, 1]
            away(disk, folders, spool.inbox())

        assert spool.files() == {b"done/" + path: path for path in (b"a", b"x/b", b"x/y/c")}
        if not racing.raced:
            break
        walked("two that claim", "a rival", point, kind_of(disk))

    assert point > 10
