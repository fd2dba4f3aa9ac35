"""Taking files into a parcel, looking into parcels, splitting them, giving files back."""

import errno
from pathlib import Path

import pytest
from support.crash.fuse import Fuse
from support.descriptors import open_descriptors
from support.disk.deep_trees import LEVELS, deep_tree
from support.disk.disks import RefusingDisk
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.spool.claims import (
    ClaimResult,
    claim,
    list_files,
    list_parcels,
    open_folder_of,
    release_file,
    remove_if_empty,
    split_off,
)
from inboxd.spool.layout import new_parcel_id

ODD = [b"a", b"x/b", b"x/y/c d", b"\xff/\n", b"n" * 255]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


def take(spool: Spool, *paths: bytes, disk: Disk | None = None) -> tuple[str, ClaimResult]:
    parcel = new_parcel_id()
    with spool.folders() as folders:
        return parcel, claim(disk or Disk(), folders, parcel, paths)


def listed(spool: Spool, parcel: str) -> list[bytes]:
    with spool.folders() as folders:
        return list_files(Disk(), folders, parcel)


def test_a_claimed_file_keeps_its_path_and_its_bytes(spool: Spool) -> None:
    for path in ODD:
        spool.put(b"inbox/" + path, b"content of " + path)

    parcel, got = take(spool, *ODD)

    assert got == ClaimResult(ODD, [])
    assert spool.files(f"claimed/{parcel}") == {path: b"content of " + path for path in ODD}
    assert spool.files("inbox") == {}
    assert listed(spool, parcel) == sorted(ODD)


def test_what_is_claimed_is_nobody_elses_business(spool: Spool) -> None:
    spool.put(b"inbox/x/a")

    parcel, _ = take(spool, b"x/a")

    modes = [(spool.root / "claimed" / parcel / sub).stat().st_mode & 0o777 for sub in ("", "x")]
    assert modes == [0o700, 0o700]


def test_of_two_claimers_one_gets_the_file(spool: Spool) -> None:
    spool.put(b"inbox/a")

    first, got_first = take(spool, b"a")
    _, got_second = take(spool, b"a")

    assert (got_first.claimed, got_second.claimed) == ([b"a"], [])
    with spool.folders() as folders:
        assert list_parcels(Disk(), folders) == [first]


@pytest.mark.parametrize("path", [b"gone", b"no/such/folder", b"a/b"])
def test_a_file_that_is_gone_is_no_error_and_leaves_no_parcel(path: bytes, spool: Spool) -> None:
    spool.put(b"inbox/a")

    _, got = take(spool, path)

    assert got == ClaimResult([], [])
    assert list((spool.root / "claimed").iterdir()) == []


def test_a_file_that_the_system_keeps_from_us_does_not_hold_up_the_others(spool: Spool) -> None:
    for path in (b"a", b"x/b", b"c"):
        spool.put(b"inbox/" + path)

    parcel, got = take(spool, b"a", b"x/b", b"c", disk=RefusingDisk("open_folder", b"x", errno.EACCES))

    assert got.claimed == [b"a", b"c"]
    assert [(path, error.errno) for path, error in got.denied] == [(b"x/b", errno.EACCES)]
    assert spool.files("inbox") == {b"x/b": b"content"}
    assert listed(spool, parcel) == [b"a", b"c"]


def test_a_sub_folder_that_became_a_link_leads_nowhere(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (spool.root / "inbox" / "x").symlink_to(tmp_path)

    _, got = take(spool, b"x/secret")

    assert got.claimed == []
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_the_paths_that_were_won_are_where_they_are_said_to_be(spool: Spool) -> None:
    """A dropper may replace a file by a folder of the same name while both are being claimed."""
    spool.put(b"inbox/a", b"file")
    parcel = new_parcel_id()

    def paths() -> object:
        yield b"a"
        spool.put(b"inbox/a/b", b"in the folder")
        yield b"a/b"

    with spool.folders() as folders:
        got = claim(Disk(), folders, parcel, paths())

    assert set(got.claimed) == set(listed(spool, parcel))


def test_parcels_are_listed_oldest_first_and_nothing_else_is(spool: Spool) -> None:
    made = [new_parcel_id(second) for second in (3.0, 1.0, 2.0)]
    for name in (*made, "no parcel", "lost+found", "A" * 28):
        (spool.root / "claimed" / name).mkdir()
    spool.put(b"claimed/" + b"0" * 28)

    with spool.folders() as folders:
        assert list_parcels(Disk(), folders) == [made[1], made[2], made[0]]


def test_a_parcel_that_is_not_there_has_no_files(spool: Spool) -> None:
    assert listed(spool, new_parcel_id()) == []


def test_a_link_in_a_parcel_is_listed_and_not_followed(spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    (spool.root / "claimed" / parcel / "link").symlink_to("/etc")

    assert listed(spool, parcel) == [b"a", b"link"]


def test_the_files_of_a_tree_of_3000_levels_are_listed_level_by_level(spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    patient = Fuse(Disk(), 20 * LEVELS)  # to open each folder from the top takes millions

    with deep_tree(spool.root / "claimed" / parcel) as deep, spool.folders() as folders:
        found = list_files(patient, folders, parcel)

    assert found == [b"a", deep]


def test_a_file_is_split_off_into_a_parcel_of_its_own(spool: Spool) -> None:
    parcel, into = spool.claimed(b"x/a", b"x/b"), new_parcel_id()

    with spool.folders() as folders:
        assert split_off(Disk(), folders, parcel, b"x/a", into)

    assert (listed(spool, parcel), listed(spool, into)) == ([b"x/b"], [b"x/a"])


def test_splitting_off_the_last_file_removes_the_old_parcel(spool: Spool) -> None:
    parcel, into = spool.claimed(b"x/a"), new_parcel_id()

    with spool.folders() as folders:
        split_off(Disk(), folders, parcel, b"x/a", into)

        assert list_parcels(Disk(), folders) == [into]


@pytest.mark.parametrize("path", [b"gone", b"x/gone", b"a/b"])
def test_splitting_off_what_is_gone_leaves_no_new_parcel(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    with spool.folders() as folders:
        assert not split_off(Disk(), folders, parcel, path, new_parcel_id())
        assert not split_off(Disk(), folders, new_parcel_id(), b"a", new_parcel_id())

        assert list_parcels(Disk(), folders) == [parcel]


def test_a_released_file_is_back_under_its_own_path(spool: Spool) -> None:
    parcel = spool.claimed(b"x/y/a")

    with spool.folders() as folders:
        assert release_file(Disk(), folders, parcel, b"x/y/a")

    assert spool.files() == {b"inbox/x/y/a": b"content"}
    assert spool.folders_in("claimed") == set()


def test_a_released_file_does_not_overwrite_the_one_that_was_dropped_meanwhile(spool: Spool) -> None:
    parcel = spool.claimed(b"a.txt", data=b"old")
    spool.put(b"inbox/a.txt", b"new")

    with spool.folders() as folders:
        assert release_file(Disk(), folders, parcel, b"a.txt")

    assert spool.files("inbox") == {b"a.txt": b"new", b"a (2).txt": b"old"}


@pytest.mark.parametrize("path", [b"gone", b"x/y/gone"])
def test_releasing_what_is_gone_is_no_error_and_makes_no_folders(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(b"x/y/a")

    with spool.folders() as folders:
        assert not release_file(Disk(), folders, parcel, path)
        assert not release_file(Disk(), folders, new_parcel_id(), path)

    assert spool.folders_in("inbox") == set()


def test_an_empty_parcel_is_discarded_with_all_its_folders(spool: Spool) -> None:
    parcel = spool.claimed()
    (spool.root / "claimed" / parcel / "x" / "y").mkdir(parents=True)
    (spool.root / "claimed" / parcel / "z").mkdir()

    with spool.folders() as folders:
        remove_if_empty(Disk(), folders, parcel)
        remove_if_empty(Disk(), folders, parcel)

    assert list((spool.root / "claimed").iterdir()) == []


@pytest.mark.parametrize("left", [b"a", b"x/a", b"x/y/z/a"])
def test_a_parcel_that_holds_a_file_is_never_discarded(left: bytes, spool: Spool) -> None:
    parcel = spool.claimed(left)

    with spool.folders() as folders:
        remove_if_empty(Disk(), folders, parcel)

    assert listed(spool, parcel) == [left]


@pytest.mark.parametrize("path", [b"../a", b"x/../../a", b"/etc/passwd", b""])
def test_a_path_that_leads_outside_is_refused(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    with spool.folders() as folders, pytest.raises(ValueError, match="not a path"):
        open_folder_of(Disk(), folders, parcel, path)


def test_no_descriptor_is_left_open(spool: Spool) -> None:
    open_before = open_descriptors()
    spool.put(b"inbox/x/a")

    parcel, _ = take(spool, b"x/a", b"gone", b"no/such")
    with spool.folders() as folders:
        release_file(Disk(), folders, parcel, b"x/gone")
        split_off(Disk(), folders, parcel, b"x/a", into := new_parcel_id())
        release_file(Disk(), folders, into, b"x/a")

    assert open_descriptors() == open_before
