"""Crashes at each disk operation: no file is lost, duplicated or overwritten, and the next pass completes the work."""

import errno
import itertools
import time
from pathlib import Path

import pytest
from support.crash.crash_points import record_crash_point
from support.crash.spool_scenarios import (
    FILING,
    MOVING,
    TIDYING,
    SpoolScenario,
    after_retention,
    crash,
    crashes,
    existing_notes,
    expected_notes,
    is_begun,
    places,
)
from support.disk.disks import LinkingDisk, TwoDisks, kind_of
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk

RENAMED = [(scenario, Disk()) for scenario in (*FILING, *MOVING, *TIDYING)]
LINKED = [(scenario, LinkingDisk()) for scenario in (*FILING, *MOVING)]
COPIED = [(scenario, TwoDisks()) for scenario in FILING]

TWO_CRASH_NAMES = ("done, its name taken", "failed", "failed, its name taken")
TWO_CRASHES = [(scenario, disk) for scenario, disk in (*RENAMED, *LINKED) if scenario.name in TWO_CRASH_NAMES]
TWO_CRASHES += [(scenario, disk) for scenario, disk in RENAMED if scenario.name == "split"]
TWO_CRASHES += [(scenario, disk) for scenario, disk in COPIED if scenario.name == "done"]

POINTS_MIN = 4
"""Minimum operations of a scenario: with fewer, its action was not executed."""


def case_id(value: object) -> str | None:
    if isinstance(value, Disk):
        return type(value).__name__
    return value.name if isinstance(value, SpoolScenario) else None


def recover(scenario: SpoolScenario, spool: Spool, disk: Disk) -> None:
    with spool.folders() as folders:
        scenario.recover(disk, folders, spool.inbox())


def assert_each_content_exists_once(scenario: SpoolScenario, files: dict[bytes, bytes]) -> None:
    assert {data: len(paths) for data, paths in places(files).items()} == dict.fromkeys(scenario.contents, 1)
    assert scenario.settled.items() <= files.items()


def assert_nothing_is_lost(scenario: SpoolScenario, files: dict[bytes, bytes]) -> None:
    assert places(files).keys() == scenario.contents
    assert scenario.settled.items() <= files.items()


def assert_all_is_filed(scenario: SpoolScenario, spool: Spool) -> None:
    files = spool.files()
    assert_each_content_exists_once(scenario, files)
    assert {path.split(b"/")[0] for path in files} <= {b"done", b"failed"}
    assert list((spool.root / "claimed").iterdir()) == []
    assert existing_notes(files) == expected_notes(files)
    if any(is_begun(path, data) for path, data in files.items()):
        files = after_retention(spool, time.time())
        assert not [path for path, data in files.items() if is_begun(path, data)]
        assert_each_content_exists_once(scenario, files)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("scenario", "disk"), RENAMED, ids=case_id)
def test_after_a_crash_each_file_exists_once_and_the_next_pass_files_it(
    scenario: SpoolScenario, disk: Disk, after: bool, tmp_path: Path
) -> None:
    points = 0
    for spool in crashes(scenario, tmp_path, disk, after=after):
        points += 1
        assert_each_content_exists_once(scenario, spool.files())

        recover(scenario, spool, disk)

        assert_all_is_filed(scenario, spool)
    assert points >= POINTS_MIN


@pytest.mark.parametrize(("scenario", "disk"), [*LINKED, *COPIED], ids=case_id)
def test_after_a_crash_between_two_links_the_next_pass_files_each_file_once(
    scenario: SpoolScenario, disk: Disk, tmp_path: Path
) -> None:
    points = 0
    for spool in crashes(scenario, tmp_path, disk):
        points += 1
        assert_nothing_is_lost(scenario, spool.files())

        recover(scenario, spool, disk)

        assert_all_is_filed(scenario, spool)
    assert points >= POINTS_MIN


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize(("scenario", "disk"), [*RENAMED, *LINKED, *COPIED], ids=case_id)
def test_after_a_disk_error_the_next_pass_files_each_file_once(
    scenario: SpoolScenario, disk: Disk, code: int, tmp_path: Path
) -> None:
    points = 0
    for spool in crashes(scenario, tmp_path, disk, error=OSError(code, "on purpose")):
        points += 1
        assert_nothing_is_lost(scenario, spool.files())

        recover(scenario, spool, disk)

        assert_all_is_filed(scenario, spool)
    assert points >= POINTS_MIN


@pytest.mark.parametrize(("scenario", "disk"), TWO_CRASHES, ids=case_id)
def test_a_second_crash_during_the_next_pass_loses_nothing(scenario: SpoolScenario, disk: Disk, tmp_path: Path) -> None:
    for first in itertools.count(1):
        for second in itertools.count(1):
            spool = scenario.arrange(tmp_path / f"{first}-{second}")
            has_first = crash(scenario.act, spool, disk, first)
            if crash(scenario.recover, spool, disk, second):
                record_crash_point(scenario.name, "a second fault", (first, second), kind_of(disk))
                assert_nothing_is_lost(scenario, spool.files())
                recover(scenario, spool, disk)
                assert_all_is_filed(scenario, spool)
            else:
                break
        if not has_first:
            assert first > POINTS_MIN
            return
