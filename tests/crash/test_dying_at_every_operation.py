"""Die at every single operation on the disk: no file is lost, doubled or overwritten, and a later pass ends what was begun."""

import errno
import itertools
import time
from pathlib import Path

import pytest
from support.crash.crash_points import walked
from support.crash.spool_scenarios import (
    FILING,
    MOVING,
    TIDYING,
    Way,
    after_retention,
    crash,
    crashes,
    is_begun,
    notes_found,
    notes_wanted,
    places,
)
from support.disk.disks import LinkingDisk, TwoDisks, kind_of
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk

RENAMED = [(way, Disk()) for way in (*FILING, *MOVING, *TIDYING)]
LINKED = [(way, LinkingDisk()) for way in (*FILING, *MOVING)]
COPIED = [(way, TwoDisks()) for way in FILING]

TWICE = ("done, its name taken", "failed", "failed, its name taken")
DYING_TWICE = [(way, disk) for way, disk in (*RENAMED, *LINKED) if way.name in TWICE]
DYING_TWICE += [(way, disk) for way, disk in RENAMED if way.name == "split"]
DYING_TWICE += [(way, disk) for way, disk in COPIED if way.name == "done"]

POINTS_MIN = 4
"""A way with fewer operations than this has not been walked at all."""


def named(value: object) -> str | None:
    if isinstance(value, Disk):
        return type(value).__name__
    return value.name if isinstance(value, Way) else None


def recover(way: Way, spool: Spool, disk: Disk) -> None:
    with spool.folders() as folders:
        way.recover(disk, folders, spool.inbox())


def assert_each_has_one_place(way: Way, lying: dict[bytes, bytes]) -> None:
    assert {data: len(paths) for data, paths in places(lying).items()} == dict.fromkeys(way.contents, 1)
    assert way.settled.items() <= lying.items()


def assert_nothing_is_lost(way: Way, lying: dict[bytes, bytes]) -> None:
    assert places(lying).keys() == way.contents
    assert way.settled.items() <= lying.items()


def assert_all_is_filed(way: Way, spool: Spool) -> None:
    lying = spool.files()
    assert_each_has_one_place(way, lying)
    assert {path.split(b"/")[0] for path in lying} <= {b"done", b"failed"}
    assert list((spool.root / "claimed").iterdir()) == []
    assert notes_found(lying) == notes_wanted(lying)
    if any(is_begun(path, data) for path, data in lying.items()):
        left = after_retention(spool, time.time())
        assert not [path for path, data in left.items() if is_begun(path, data)]
        assert_each_has_one_place(way, left)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("way", "disk"), RENAMED, ids=named)
def test_a_crash_leaves_every_file_in_one_place_and_the_next_pass_files_it(
    way: Way, disk: Disk, after: bool, tmp_path: Path
) -> None:
    points = 0
    for spool in crashes(way, tmp_path, disk, after=after):
        points += 1
        assert_each_has_one_place(way, spool.files())

        recover(way, spool, disk)

        assert_all_is_filed(way, spool)
    assert points >= POINTS_MIN


@pytest.mark.parametrize(("way", "disk"), [*LINKED, *COPIED], ids=named)
def test_a_crash_between_two_names_loses_nothing_and_the_next_pass_files_it_once(way: Way, disk: Disk, tmp_path: Path) -> None:
    points = 0
    for spool in crashes(way, tmp_path, disk):
        points += 1
        assert_nothing_is_lost(way, spool.files())

        recover(way, spool, disk)

        assert_all_is_filed(way, spool)
    assert points >= POINTS_MIN


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize(("way", "disk"), [*RENAMED, *LINKED, *COPIED], ids=named)
def test_a_disk_error_loses_nothing_and_the_next_pass_files_it_once(way: Way, disk: Disk, code: int, tmp_path: Path) -> None:
    points = 0
    for spool in crashes(way, tmp_path, disk, error=OSError(code, "on purpose")):
        points += 1
        assert_nothing_is_lost(way, spool.files())

        recover(way, spool, disk)

        assert_all_is_filed(way, spool)
    assert points >= POINTS_MIN


@pytest.mark.parametrize(("way", "disk"), DYING_TWICE, ids=named)
def test_a_second_crash_in_the_next_pass_changes_nothing_about_that(way: Way, disk: Disk, tmp_path: Path) -> None:
    for first in itertools.count(1):
        for second in itertools.count(1):
            spool = way.arrange(tmp_path / f"{first}-{second}")
            again = crash(way.act, spool, disk, first)
            if crash(way.recover, spool, disk, second):
                walked(way.name, "a second fault", (first, second), kind_of(disk))
                assert_nothing_is_lost(way, spool.files())
                recover(way, spool, disk)
                assert_all_is_filed(way, spool)
            else:
                break
        if not again:
            assert first > POINTS_MIN
            return
