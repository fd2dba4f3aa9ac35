"""Races on one file: whatever another process does before any single operation, nothing is lost or duplicated."""

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from support.crash.crash_points import record_crash_point
from support.crash.spool_scenarios import PARCEL, P, away, existing_notes, expected_notes, note, places, take
from support.disk.disks import LinkingDisk, RacingDisk, TwoDisks, kind_of
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.spool.claims import release_file, split_off
from inboxd.spool.filing import move_to_done, move_to_failed
from inboxd.spool.layout import Folders, new_parcel_id

PATH = b"x/a.pdf"
Action = Callable[[Disk, Folders], object]


def succeed(disk: Disk, folders: Folders) -> None:
    move_to_done(disk, folders, PARCEL, PATH)


def fail(disk: Disk, folders: Folders) -> None:
    move_to_failed(disk, folders, PARCEL, PATH, note(PATH, PARCEL))


def release(disk: Disk, folders: Folders) -> None:
    release_file(disk, folders, PARCEL, PATH)


def split(disk: Disk, folders: Folders) -> None:
    split_off(disk, folders, PARCEL, PATH, new_parcel_id())


ACTIONS = (succeed, fail, release, split)
PAIRS = [(first, second, disk) for first in ACTIONS for second in ACTIONS for disk in (Disk(), LinkingDisk())]
PAIRS += [(first, second, TwoDisks()) for first in (succeed, fail) for second in (succeed, fail)]


def act_unless_locked(action: Action, disk: Disk, folders: Folders) -> None:
    """Run an action; do nothing if another process is copying the file, as the next sweep would retry."""
    with contextlib.suppress(BlockingIOError):
        action(disk, folders)


def case_id(value: object) -> str:
    return type(value).__name__ if isinstance(value, Disk) else getattr(value, "__name__", str(value))


def assert_each_content_exists_once(spool: Spool) -> None:
    files = spool.files()
    assert [len(paths) for paths in places(files).values()] == [1, 1]
    assert expected_notes(files) <= existing_notes(files)


@pytest.mark.parametrize(("first", "second", "disk"), PAIRS, ids=case_id)
def test_of_two_actions_on_one_file_exactly_one_wins(first: Action, second: Action, disk: Disk, tmp_path: Path) -> None:
    for point in itertools.count(1):
        spool = Spool.make(tmp_path / str(point))
        spool.put(P + PATH, b"A")
        spool.put(b"done/" + PATH, b"B")
        with spool.folders() as folders:
            racing = RacingDisk(disk, lambda: act_unless_locked(second, disk, folders), point)
            act_unless_locked(first, racing, folders)

        assert_each_content_exists_once(spool)
        if not isinstance(disk, TwoDisks):  # with two disks, the loser leaves its note to retention
            assert existing_notes(spool.files()) == expected_notes(spool.files())
        if not racing.raced:
            break
        record_crash_point("two actions on one file", "a race", (case_id(first), case_id(second), point), kind_of(disk))

    assert point > 4


@pytest.mark.parametrize("disk", [Disk(), LinkingDisk()], ids=case_id)
def test_of_two_claims_on_the_same_files_one_gets_each_file(disk: Disk, tmp_path: Path) -> None:
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
        record_crash_point("two claims", "a race", point, kind_of(disk))

    assert point > 10
